//! The errors of the client.

/// An error of the client; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers at the address.
    #[error("no daemon answers at {address} ({reason}); start one with `milepost serve`, or name another with --server")]
    Unreachable {
        /// The daemon's address.
        address: String,
        /// Why the connection failed.
        reason: String,
    },
    /// No token can be read.
    #[error("there is no token: {0}; name its file with --token-file, or set MILEPOST_TOKEN")]
    NoToken(String),
    /// The daemon refused the request.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason, and what to do about it.
        detail: String,
    },
    /// Something answers at the address, but not as the daemon does.
    #[error("{address} answers, but not as Milepost's daemon does: {reason}; check --server and that both have the same version")]
    UnexpectedAnswer {
        /// The address.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ClientError {
    /// Returns whether the same request may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { status: 429 | 500.., .. })
    }

    /// Returns whether the daemon or the network is at fault rather than the request.
    pub fn is_environment(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::UnexpectedAnswer { .. } | Self::Refused { status: 500.., .. })
    }
}
