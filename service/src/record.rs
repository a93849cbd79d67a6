//! A task as the service keeps it, and what the service tells about itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::submission::Submission;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for a worker.
    Queued,
    /// A runner is at it.
    Running,
    /// A runner waits for a person's decision.
    NeedsApproval,
    /// It died after it had acted: a person resumes or cancels it.
    Interrupted,
    /// The agent answered.
    Done,
    /// It ended otherwise; `stop` and `reason` say how.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl TaskState {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::NeedsApproval, Self::Interrupted, Self::Done, Self::Failed, Self::Cancelled];

    /// The state's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::NeedsApproval => "needs_approval",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether nothing will happen to the task any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Whether a runner has it in hand.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Running | Self::NeedsApproval)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// What a runner wants a person to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The action in one line.
    pub action: String,
    /// Why it was not simply carried out.
    pub reason: String,
    /// The page it would be carried out on.
    pub url: Option<String>,
    /// Screenshot file of that page, relative to the episodes' directory.
    pub screenshot: Option<String>,
}

/// What became of an [`ApprovalRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A person approved; with what they said.
    Approved(Option<String>),
    /// A person denied; with what they said.
    Denied(Option<String>),
    /// The task was cancelled meanwhile, its deadline passed, or the service drains: the runner should end.
    Ended(Cause),
}

/// Why a runner is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person or program cancelled the task.
    Cancelled,
    /// The task's deadline passed.
    Deadline,
    /// The service ends.
    Drain,
}

/// What a person said about a finished task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// Whether the task was done as asked.
    pub success: bool,
    /// Why.
    pub note: Option<String>,
    /// When it was said.
    pub at: DateTime<Utc>,
}

/// A task as the service keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Unique id (UUID v7).
    pub id: String,
    /// Who handed it in (the name of a token).
    pub caller: String,
    /// What was handed in.
    pub submission: Submission,
    /// Where it stands.
    pub state: TaskState,
    /// How often it was started.
    pub attempts: u32,
    /// Id of the last attempt's episode.
    pub episode: Option<String>,
    /// Why it ended: a word of the runtime's `Stop`, or `deadline`, `lost`.
    pub stop: Option<String>,
    /// The reason in words, also of an interruption.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the schema asked for.
    pub output: Option<Value>,
    /// Verified outcome.
    pub success: Option<bool>,
    /// What a person must decide.
    pub approval: Option<ApprovalRequest>,
    /// Whether this attempt may have changed something.
    pub acted: bool,
    /// Whether it is to be cancelled as soon as its runner lets go.
    pub cancel_requested: bool,
    /// What a person said afterwards.
    pub feedback: Option<Feedback>,
    /// When it must have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// It is not started before this time (after a failed attempt).
    pub not_before: Option<DateTime<Utc>>,
    /// When it was handed in.
    pub created_at: DateTime<Utc>,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended for good.
    pub ended_at: Option<DateTime<Utc>>,
    /// Number of its last event.
    pub last_seq: u64,
    /// Starts that are allowed without a person's word.
    pub attempt_limit: u32,
}

/// What `submit` answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The task.
    pub record: TaskRecord,
    /// Whether the same request had been handed in before.
    pub repeated: bool,
}

/// Which tasks a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only of this caller.
    pub caller: Option<String>,
}

/// One page of a listing, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// The cursor of the next page, where there is one.
    pub next: Option<String>,
}

/// A named browser profile in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileLease {
    /// The profile's name.
    pub profile: String,
    /// The task that has it.
    pub task: String,
}

/// How the service stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of tasks in each state; every state has an entry.
    pub tasks: BTreeMap<TaskState, u64>,
    /// Workers in all.
    pub workers: usize,
    /// Workers at a task.
    pub busy: usize,
    /// Seconds that the oldest queued task has waited.
    pub oldest_waiting_seconds: Option<f64>,
    /// Webhooks that are still to be delivered.
    pub webhooks_pending: u64,
    /// Whether no task is started at present.
    pub paused: bool,
    /// Whether the service drains.
    pub draining: bool,
}

/// How busy the service is: what background work asks before it takes the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Workers at a task.
    pub busy: usize,
    /// Workers in all.
    pub workers: usize,
    /// Tasks that wait for a worker.
    pub waiting: u64,
}

/// What became of the running tasks in a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Ended by themselves within the bound.
    pub finished: usize,
    /// Cut off before they had acted (or safe to repeat): queued again.
    pub requeued: usize,
    /// Cut off after they had acted: interrupted.
    pub interrupted: usize,
}
