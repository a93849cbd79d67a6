//! The service's errors; every message says what to do.

use crate::state::TaskState;

/// Result of a service operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full.
    #[error("the queue is full ({limit} tasks wait); try again in {retry_after} s or raise `service.queue_limit`")]
    Full {
        /// The maximum number of queued tasks.
        limit: usize,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The caller has too many queued tasks.
    #[error("{caller} has {limit} tasks waiting already; try again in {retry_after} s or raise `service.per_caller_queued`")]
    TooMany {
        /// The caller.
        caller: String,
        /// The maximum number of queued tasks of one caller.
        limit: usize,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The service shuts down and takes no new tasks.
    #[error("the service is shutting down and takes no new tasks; try again in {retry_after} s")]
    Draining {
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// There is no task with this id.
    #[error("there is no task {0}; `GET /v1/tasks` lists them")]
    NotFound(String),
    /// The task's state does not allow the operation.
    #[error("task {id} is {state}: {reason}")]
    Conflict {
        /// The task's id.
        id: String,
        /// The task's state.
        state: TaskState,
        /// Why the operation is not possible, and what is possible instead.
        reason: String,
    },
    /// The idempotency key was used for a different submission.
    #[error("the idempotency key {key:?} belongs to task {task}, which was handed in with another body; use a new key for a new task")]
    KeyReused {
        /// The key.
        key: String,
        /// Id of the task that has the key.
        task: String,
    },
    /// The submission or request is invalid.
    #[error("{field}: {reason}")]
    Invalid {
        /// The invalid field.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The runner has lost its task: it was silent for too long, or the task ended.
    #[error("task {0} is no longer this runner's; it must stop")]
    Lost(String),
    /// Another process uses the directory.
    #[error("{0} is in use by another milepost; stop that one, or give this one another `serve.directory`")]
    InUse(String),
    /// The database or another file of the service failed.
    #[error("service store {path}: {reason}")]
    Store {
        /// The file.
        path: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The disk of the database is full.
    #[error("service store {path}: its disk is full; free some space. What was written so far is safe")]
    NoSpace {
        /// The file.
        path: String,
    },
    /// The episode store failed.
    #[error(transparent)]
    Episodes(#[from] milepost_runtime::Error),
}

impl Error {
    /// Returns whether the database failed, as opposed to a request that was refused.
    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::NoSpace { .. })
    }
}
