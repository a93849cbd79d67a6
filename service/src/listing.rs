//! Listings of tasks, and the answer to a submission.

use serde::{Deserialize, Serialize};

use crate::record::TaskRecord;
use crate::state::TaskState;

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The task.
    pub record: TaskRecord,
    /// Whether this task had been submitted before with the same idempotency key.
    pub repeated: bool,
}

/// The tasks that a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskFilter {
    /// Only tasks in this state.
    pub state: Option<TaskState>,
    /// Only tasks of this caller.
    pub caller: Option<String>,
}

/// One page of a listing, newest task first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}
