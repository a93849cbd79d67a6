//! The result of a run.

use milepost_runtime::Stop;
use serde_json::Value;

/// The result of a run that finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Why the run ended: [`Stop::Answered`] makes the task `done`, [`Stop::Cancelled`] makes it `cancelled`, anything else `failed`.
    pub stop: Stop,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the submission's schema describes.
    pub output: Option<Value>,
    /// Verified outcome.
    pub success: Option<bool>,
    /// The episode's id.
    pub episode: Option<String>,
}

/// The error of a run that did not finish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFailure {
    /// Another attempt may succeed (for example after no browser could be started): the task is tried again if that repeats no side effect.
    #[error("{0}")]
    Transient(String),
    /// Another attempt would fail, too.
    #[error("{0}")]
    Permanent(String),
}
