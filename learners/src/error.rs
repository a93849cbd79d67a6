//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong while a model is made, read, trained or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON document does not have the expected keys.
    #[error("{path}: {source}")]
    Json {
        /// The document.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A safetensors file is damaged.
    #[error("{path}: {source}")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// A tensor is missing, or its shape or type is not what the configuration asks for.
    #[error("{path}: tensor `{name}`: {problem}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A configuration asks for something that cannot be.
    #[error("configuration key `{key}`: {problem}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The probes of an adapter cannot be made or read.
    #[error("{path}: {problem}")]
    Probes {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A batch cannot be trained on.
    #[error("sequence {index} of the batch: {problem}")]
    Batch {
        /// Which sequence.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A device failed at its work.
    #[error("the device failed: {0}; where its memory is short, set `recompute: true`, `base: bf16` or a smaller `max_tokens`")]
    Device(candle_core::Error),
    /// A run that was asked to stop on a health rule.
    #[error("training stopped: {0}")]
    Unhealthy(String),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an I/O error with the path it is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// Wraps a JSON error with the path it is about.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json { path: path.to_path_buf(), source }
    }

    /// Wraps a safetensors error with the path it is about.
    pub(crate) fn safetensors(path: &Path) -> impl FnOnce(safetensors::SafeTensorError) -> Self + '_ {
        move |source| Self::Safetensors { path: path.to_path_buf(), source }
    }
}
