//! The states of a task, and the causes for which a run is cancelled.

use serde::{Deserialize, Serialize};

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The task waits for a worker.
    Queued,
    /// A runner carries the task out.
    Running,
    /// The runner waits for a person's decision.
    NeedsApproval,
    /// The run was lost after it had acted, or while it waited for a person: a person must resume or cancel the task.
    Interrupted,
    /// The agent answered.
    Done,
    /// The task ended without an answer; `stop` and `reason` of its record say why.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

impl TaskState {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::NeedsApproval, Self::Interrupted, Self::Done, Self::Failed, Self::Cancelled];

    /// Returns the state's name, as it is stored and shown.
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

    /// Returns the state with this name, if there is one.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Returns true if the task has ended for good.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Returns true if a runner has the task: it runs, or it waits for a person.
    pub fn has_runner(self) -> bool {
        matches!(self, Self::Running | Self::NeedsApproval)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// The cause for which a run is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelCause {
    /// A person or program cancelled the task.
    Cancelled,
    /// The task's deadline passed.
    Deadline,
    /// The service shuts down.
    Drain,
}
