//! The one error type of this crate; every variant names the file and the fix.

use std::path::{Path, PathBuf};

/// Result of a text operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between words and token ids.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that a model directory must have is not there.
    #[error("{path} is missing; {fix}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        fix: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is there, but not what it should be.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The tokenizer has more tokens than the weights have rows.
    #[error(
        "the tokenizer in {dir} has {tokenizer} tokens but the weights have {weights} (vocab_size in config.json); \
         put the tokenizer.json that belongs to these weights there",
        dir = dir.display()
    )]
    Vocabulary {
        /// Model directory.
        dir: PathBuf,
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        weights: usize,
    },
    /// The chat template failed on these messages.
    #[error("the chat template refuses these messages: {0}")]
    Template(String),
    /// Text that the tokenizer cannot encode.
    #[error("the tokenizer cannot encode {text:?}: {reason}")]
    Encode {
        /// Beginning of the text.
        text: String,
        /// Why.
        reason: String,
    },
    /// A grammar that does not compile, or a token that it does not allow.
    #[error("grammar {hash}: {reason}")]
    Grammar {
        /// Hash of the grammar's text.
        hash: String,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer could not be trained.
    #[error("the tokenizer cannot be trained: {0}")]
    Train(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }
}

impl From<Error> for milepost_runtime::Error {
    fn from(error: Error) -> Self {
        Self::Engine(error.to_string())
    }
}
