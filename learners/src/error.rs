//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// An error that occurs while a model is created, read, trained or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A JSON document does not have the expected keys.
    #[error("{path}: {source}")]
    Json {
        /// The path of the document.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// A safetensors file is damaged.
    #[error("{path}: {source}")]
    Safetensors {
        /// The path of the file.
        path: PathBuf,
        /// The error of the parser.
        source: safetensors::SafeTensorError,
    },
    /// A tensor is missing, or its shape or type does not match the configuration.
    #[error("{path}: tensor `{name}`: {problem}")]
    Tensor {
        /// The path of the file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// A description of what is wrong with the tensor.
        problem: String,
    },
    /// A configuration holds a value that is invalid or cannot be honoured.
    #[error("configuration key `{key}`: {problem}")]
    Config {
        /// The configuration key.
        key: &'static str,
        /// A description of what is wrong, and of what would be right.
        problem: String,
    },
    /// The probes of an adapter cannot be computed or read.
    #[error("{path}: {problem}")]
    Probes {
        /// The path of the file.
        path: PathBuf,
        /// A description of what is wrong, and of what to do about it.
        problem: String,
    },
    /// A batch cannot be trained on.
    #[error("sequence {index} of the batch: {problem}")]
    Batch {
        /// The index of the sequence in the batch.
        index: usize,
        /// A description of what is wrong with the sequence.
        problem: String,
    },
    /// A computation on the device failed.
    #[error("the device failed: {0}; where its memory is short, set `recompute: true`, `base: bf16` or a smaller `max_tokens`")]
    Device(String),
    /// Training was stopped because a health check failed.
    #[error("training stopped: {0}")]
    Unhealthy(String),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns a function that wraps an I/O error with the path of the file it occurred on.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// Wraps an error of candle, the library that computes on the device.
    #[cfg(feature = "gpu-training")]
    pub(crate) fn device(error: candle_core::Error) -> Self {
        Self::Device(error.to_string())
    }

    /// Returns a function that wraps a JSON error with the path of the file it occurred in.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json { path: path.to_path_buf(), source }
    }

    /// Returns a function that wraps a safetensors error with the path of the file it occurred in.
    pub(crate) fn safetensors(path: &Path) -> impl FnOnce(safetensors::SafeTensorError) -> Self + '_ {
        move |source| Self::Safetensors { path: path.to_path_buf(), source }
    }
}
