//! Figures about the service as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::TaskState;

/// A named browser profile in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileLease {
    /// The profile's name.
    pub profile: String,
    /// Id of the task that uses the profile.
    pub task: String,
}

/// The figures of the service at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of tasks in each state; every state has an entry.
    pub tasks: BTreeMap<TaskState, u64>,
    /// Number of workers.
    pub workers: usize,
    /// Number of workers that have a task.
    pub busy: usize,
    /// Seconds for which the oldest queued task has waited.
    pub oldest_waiting_seconds: Option<f64>,
    /// Number of webhooks still to be delivered.
    pub webhooks_pending: u64,
    /// Whether starting tasks is paused.
    pub paused: bool,
    /// Whether the service shuts down.
    pub draining: bool,
}

/// How busy the service is; background work checks this before it uses the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Number of workers that have a task.
    pub busy: usize,
    /// Number of workers.
    pub workers: usize,
    /// Number of tasks that wait for a worker.
    pub waiting: u64,
}

/// The result of a drain: the outcomes of the tasks that were running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Number of tasks that ended within the time limit.
    pub finished: usize,
    /// Number of tasks that were aborted before they had acted (or are safe to repeat) and queued again.
    pub requeued: usize,
    /// Number of tasks that were aborted after they had acted and are interrupted now.
    pub interrupted: usize,
}
