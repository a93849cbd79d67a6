//! What can go wrong between a terminal and the daemon.

use crate::exit::Exit;

/// An error of the client; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no daemon answers at {address} ({reason}); start one with `milepost serve`, or name another with --server")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// There is no token to show.
    #[error("there is no token: {0}; name its file with --token-file, or set MILEPOST_TOKEN")]
    NoToken(String),
    /// The daemon refused.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, and what to do.
        detail: String,
    },
    /// The daemon said something that is no answer.
    #[error("{address} answers, but not as Milepost's daemon does: {reason}; check --server and that both have the same version")]
    Strange {
        /// Where.
        address: String,
        /// What.
        reason: String,
    },
}

impl ClientError {
    /// The exit code of its kind.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Strange { .. } | Self::Refused { status: 500.., .. } => Exit::Environment,
            Self::NoToken(_) | Self::Refused { .. } => Exit::BadInput,
        }
    }

    /// Whether it may go away by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { status: 429 | 500.., .. })
    }
}
