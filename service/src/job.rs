//! A task in a runner's hands: what the service and the runner's desk share about it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};

use crate::event::EventKind;
use crate::feed::lock;
use crate::record::{Cause, Decision, TaskRecord};

/// A task in a runner's hands. The attempt is the fence: whoever holds an older one can write nothing any more.
pub(crate) struct JobState {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// When the runner last showed life.
    beat: Mutex<Instant>,
    cancel: watch::Sender<bool>,
    cause: Mutex<Option<Cause>>,
    /// Events that are still to be written.
    pub(crate) pending: Mutex<Vec<EventKind>>,
    /// Events were added, or something changed that the supervisor's timers depend on.
    pub(crate) wake: Notify,
    /// One writes the pending events at a time, so that they stay in order.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// One asks a person at a time.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Whom a person's decision goes to.
    pub(crate) decision: Mutex<Option<oneshot::Sender<Decision>>>,
    /// What people said and the runner has not heard.
    pub(crate) messages: Mutex<Vec<String>>,
    /// Whether it waits for a person: its lease does not run.
    pub(crate) waiting: AtomicBool,
    /// Whether that it has acted is written down.
    pub(crate) acted: AtomicBool,
    /// The worker's place; given up while it waits for a person.
    pub(crate) permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl JobState {
    pub(crate) fn new(task: &TaskRecord, permit: OwnedSemaphorePermit, messages: Vec<String>) -> Self {
        Self {
            id: task.id.clone(),
            attempt: task.attempts,
            beat: Mutex::new(Instant::now()),
            cancel: watch::Sender::new(false),
            cause: Mutex::default(),
            pending: Mutex::default(),
            wake: Notify::new(),
            recording: tokio::sync::Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            decision: Mutex::default(),
            messages: Mutex::new(messages),
            waiting: AtomicBool::new(false),
            acted: AtomicBool::new(false),
            permit: Mutex::new(Some(permit)),
        }
    }

    /// The runner shows life.
    pub(crate) fn beat(&self) {
        *lock(&self.beat) = Instant::now();
    }

    /// When the lease runs out; never while it waits for a person.
    pub(crate) fn lease_ends(&self, lease: Duration) -> Option<Instant> {
        (!self.waiting.load(Ordering::Acquire)).then(|| *lock(&self.beat) + lease)
    }

    /// Tells the runner to end. The first cause counts, except that a person's word goes before a drain.
    pub(crate) fn end(&self, cause: Cause) {
        {
            let mut known = lock(&self.cause);
            if known.is_none() || (*known == Some(Cause::Drain) && cause == Cause::Cancelled) {
                *known = Some(cause);
            }
        }
        self.cancel.send_replace(true);
        self.wake.notify_one();
    }

    /// Why the runner was told to end.
    pub(crate) fn cause(&self) -> Option<Cause> {
        *lock(&self.cause)
    }

    /// Becomes true when the runner should end.
    pub(crate) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    /// Whether the task is this job's still.
    pub(crate) fn holds(&self, task: &TaskRecord) -> bool {
        task.state.is_held() && task.attempts == self.attempt
    }
}
