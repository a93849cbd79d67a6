//! The service's errors; every variant says what to do.

use crate::record::TaskState;

/// Result of a service operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full.
    #[error("the queue is full ({limit} tasks wait); try again in {retry_after} s or raise `service.queue_limit`")]
    Full {
        /// The limit.
        limit: usize,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The caller has too many tasks waiting.
    #[error("{caller} has {limit} tasks waiting already; try again in {retry_after} s or raise `service.per_caller_queued`")]
    TooMany {
        /// The caller.
        caller: String,
        /// The limit.
        limit: usize,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The service drains: it takes nothing new.
    #[error("the service is shutting down and takes no new tasks; try again in {retry_after} s")]
    Draining {
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// There is no such task.
    #[error("there is no task {0}; `GET /v1/tasks` lists them")]
    NotFound(String),
    /// The task is not in a state that allows this.
    #[error("task {id} is {state}: {reason}")]
    Conflict {
        /// The task.
        id: String,
        /// Where it stands.
        state: TaskState,
        /// What is not possible and what is.
        reason: String,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key {key:?} belongs to task {task}, which was handed in with another body; use a new key for a new task")]
    KeyReused {
        /// The key.
        key: String,
        /// The task that has it.
        task: String,
    },
    /// A submission or request that cannot be taken.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The runner does not hold the task any more: it was silent for too long, or it was ended.
    #[error("task {0} is no longer this runner's; it must stop")]
    Lost(String),
    /// Another process has the directory.
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
    /// The episodes' store failed.
    #[error(transparent)]
    Episodes(#[from] milepost_runtime::Error),
}
