//! The state of a running task, shared by the service and the runner's [`TaskHandle`](crate::TaskHandle).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use crate::approval::Decision;
use crate::event::EventKind;
use crate::record::TaskRecord;
use crate::state::CancelCause;
use crate::sync::lock;

/// The state of one attempt at a task. The attempt's number is the fencing token: a runner with an older attempt can write nothing any
/// more.
pub(crate) struct JobState {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// When the runner last gave a sign of life.
    last_heartbeat: Mutex<Instant>,
    cancellation: CancellationToken,
    cancel_cause: Mutex<Option<CancelCause>>,
    /// Events that are still to be written.
    pub(crate) pending_events: Mutex<Vec<EventKind>>,
    /// Wakes the supervisor: events were added, or something changed that its timers depend on.
    pub(crate) changed: Notify,
    /// Held while pending events are written, so that they stay in order.
    pub(crate) writing_events: tokio::sync::Mutex<()>,
    /// Held while a person is asked, so that there is one request at a time.
    pub(crate) requesting_approval: tokio::sync::Mutex<()>,
    /// The sender of a person's decision to the waiting runner.
    pub(crate) decision_sender: Mutex<Option<oneshot::Sender<Decision>>>,
    /// Messages from people that the runner has not taken yet.
    pub(crate) messages: Mutex<Vec<String>>,
    /// Whether the run waits for a person; its lease cannot expire meanwhile.
    pub(crate) awaits_approval: AtomicBool,
    /// Whether the store has recorded that the run has acted.
    pub(crate) acted: AtomicBool,
    /// The permit of the worker that runs the task; released while the run waits for a person.
    pub(crate) worker_permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl JobState {
    /// Makes the state of an attempt that has just started; `messages` are all messages to the task's agent so far.
    pub(crate) fn new(task: &TaskRecord, worker_permit: OwnedSemaphorePermit, messages: Vec<String>) -> Self {
        Self {
            id: task.id.clone(),
            attempt: task.attempts,
            last_heartbeat: Mutex::new(Instant::now()),
            cancellation: CancellationToken::new(),
            cancel_cause: Mutex::default(),
            pending_events: Mutex::default(),
            changed: Notify::new(),
            writing_events: tokio::sync::Mutex::default(),
            requesting_approval: tokio::sync::Mutex::default(),
            decision_sender: Mutex::default(),
            messages: Mutex::new(messages),
            awaits_approval: AtomicBool::new(false),
            acted: AtomicBool::new(false),
            worker_permit: Mutex::new(Some(worker_permit)),
        }
    }

    /// Renews the lease.
    pub(crate) fn heartbeat(&self) {
        *lock(&self.last_heartbeat) = Instant::now();
    }

    /// Returns when the lease expires; `None` while the run waits for a person.
    pub(crate) fn lease_expires(&self, lease: Duration) -> Option<Instant> {
        (!self.awaits_approval.load(Ordering::Acquire)).then(|| *lock(&self.last_heartbeat) + lease)
    }

    /// Asks the runner to end. The first cause is kept, except that a cancellation replaces a drain.
    pub(crate) fn cancel(&self, cause: CancelCause) {
        {
            let mut known = lock(&self.cancel_cause);
            if known.is_none() || (*known == Some(CancelCause::Drain) && cause == CancelCause::Cancelled) {
                *known = Some(cause);
            }
        }
        self.cancellation.cancel();
        self.changed.notify_one();
    }

    /// Returns the cause for which the runner was asked to end.
    pub(crate) fn cancel_cause(&self) -> Option<CancelCause> {
        *lock(&self.cancel_cause)
    }

    /// Returns a token that is cancelled when the runner should end. Cancelling the returned token itself has no effect on the job.
    pub(crate) fn cancellation_token(&self) -> CancellationToken {
        self.cancellation.child_token()
    }

    /// Returns true if this attempt still has the task, according to the task's record.
    pub(crate) fn owns(&self, task: &TaskRecord) -> bool {
        task.state.has_runner() && task.attempts == self.attempt
    }
}
