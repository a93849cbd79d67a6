//! Who carries tasks out: the binary brings an agent with a browser and a model.

use async_trait::async_trait;
use milepost_runtime::Stop;
use serde_json::Value;

use crate::desk::Desk;
use crate::record::TaskRecord;

/// A task to carry out, and where to report.
pub struct Job {
    /// The task as it stood when it was started.
    pub record: TaskRecord,
    /// Where the runner reports and asks.
    pub desk: Desk,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Why it ended: [`Stop::Answered`] makes the task `done`, [`Stop::Cancelled`] `cancelled`, all else `failed`.
    pub stop: Stop,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the schema asked for.
    pub output: Option<Value>,
    /// Verified outcome.
    pub success: Option<bool>,
    /// The episode's id.
    pub episode: Option<String>,
}

/// Why a run did not come to an end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFailure {
    /// It may work another time (no browser could be started): tried again where that repeats no side effect.
    #[error("{0}")]
    Transient(String),
    /// It will not work another time.
    #[error("{0}")]
    Permanent(String),
}

/// Carries tasks out.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Carries one task out. The future may be dropped at any await: whatever it started must then end by itself.
    async fn run(&self, job: Job) -> Result<Report, RunFailure>;
}
