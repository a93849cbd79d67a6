//! The error type of starting, serving and ending the daemon.

/// An error of starting, serving or ending the daemon; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration or the environment does not allow the operation.
    #[error(transparent)]
    Runtime(#[from] milepost_runtime::Error),
    /// The queue failed.
    #[error(transparent)]
    Service(#[from] milepost_service::Error),
    /// A connection or file failed.
    #[error("{doing}: {error}")]
    Io {
        /// The operation that failed, in words.
        doing: &'static str,
        /// The error.
        error: std::io::Error,
    },
    /// The metrics, the traces or the protocol could not be set up.
    #[error("{0}")]
    Setup(String),
}

/// Result of starting, serving or ending the daemon.
pub type Result<T, E = Error> = std::result::Result<T, E>;
