//! The record of a task, as the service stores it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::approval::ApprovalRequest;
use crate::state::TaskState;
use crate::submission::Submission;

/// A person's judgement of a finished task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// Whether the task was done as requested.
    pub success: bool,
    /// The reason for the judgement.
    pub note: Option<String>,
    /// When the feedback was given.
    pub at: DateTime<Utc>,
}

/// The record of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Unique id (UUID v7).
    pub id: String,
    /// The caller who submitted the task (the name of a token).
    pub caller: String,
    /// The submission.
    pub submission: Submission,
    /// The current state.
    pub state: TaskState,
    /// Number of times the task was started.
    pub attempts: u32,
    /// Id of the last attempt's episode.
    pub episode: Option<String>,
    /// Why the task ended: a word of the runtime's `Stop`, or `deadline`, `lost`.
    pub stop: Option<String>,
    /// The reason in words for the end, or for an interruption.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the submission's schema describes.
    pub output: Option<Value>,
    /// Verified outcome.
    pub success: Option<bool>,
    /// The approval that the task waits for.
    pub approval: Option<ApprovalRequest>,
    /// Whether this attempt may have had a side effect.
    pub acted: bool,
    /// Whether the task is to be cancelled as soon as its runner returns.
    pub cancel_requested: bool,
    /// A person's judgement after the end.
    pub feedback: Option<Feedback>,
    /// Time by which the task must have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// The task is not started before this time (after a failed attempt).
    pub not_before: Option<DateTime<Utc>>,
    /// When the task was submitted.
    pub created_at: DateTime<Utc>,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When the task ended for good.
    pub ended_at: Option<DateTime<Utc>>,
    /// Number of the task's last event.
    pub last_seq: u64,
    /// The maximum number of attempts; it grows when a person resumes the task, and when a shutdown cost it an attempt.
    pub attempt_limit: u32,
}
