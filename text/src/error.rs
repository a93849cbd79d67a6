//! The error type of this crate; every variant names the file and the fix.

use std::path::{Path, PathBuf};

/// The result of a text operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a tokenizer, a chat template or a grammar.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that a model directory must have is missing.
    #[error("{path} is missing; {fix}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// How to fix it.
        fix: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file exists but its content cannot be used.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason, and how to fix it.
        reason: String,
    },
    /// The tokenizer has more tokens than the weights have rows.
    #[error(
        "the tokenizer in {dir} has {tokenizer} tokens but the weights have {weights} (vocab_size in config.json); \
         put the tokenizer.json that belongs to these weights there",
        dir = dir.display()
    )]
    Vocabulary {
        /// The model directory.
        dir: PathBuf,
        /// The number of the tokenizer's tokens.
        tokenizer: usize,
        /// The number of the embedding's rows.
        weights: usize,
    },
    /// The chat template failed on the messages.
    #[error("the chat template refuses these messages: {0}")]
    Template(String),
    /// The tokenizer cannot encode a text.
    #[error("the tokenizer cannot encode {text:?}: {reason}")]
    Encode {
        /// The beginning of the text.
        text: String,
        /// The reason.
        reason: String,
    },
    /// A grammar does not compile, or does not allow a token.
    #[error("grammar {hash}: {reason}")]
    Grammar {
        /// The hash of the grammar's text.
        hash: String,
        /// The reason.
        reason: String,
    },
    /// A tokenizer cannot be trained.
    #[error("the tokenizer cannot be trained: {0}")]
    Train(String),
}

impl Error {
    /// Turns an I/O error on this file into an [`Error::Io`].
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Makes an [`Error::Malformed`].
    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }
}

impl From<Error> for milepost_runtime::Error {
    fn from(error: Error) -> Self {
        Self::Engine(error.to_string())
    }
}
