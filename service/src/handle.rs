//! The handle by which a runner reports about its task, asks for approval, and receives messages and cancellation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::approval::{ApprovalRequest, Decision};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::job::JobState;
use crate::record::TaskRecord;
use crate::state::{CancelCause, TaskState};
use crate::sync::{lock, run_to_completion};

/// A runner's handle to its task. It is cheap to clone; it can write nothing any more once the runner has lost the task.
#[derive(Clone)]
pub struct TaskHandle {
    core: Arc<Core>,
    job: Arc<JobState>,
}

impl TaskHandle {
    pub(crate) fn new(core: Arc<Core>, job: Arc<JobState>) -> Self {
        Self { core, job }
    }

    /// Emits an event (a plan, a milestone or a step) and renews the lease. Events are written soon, in order, and before the task ends.
    pub fn emit(&self, kind: EventKind) {
        self.heartbeat();
        lock(&self.job.pending_events).push(kind);
        self.job.changed.notify_one();
    }

    /// Renews the lease; for long work between two events.
    pub fn heartbeat(&self) {
        self.job.heartbeat();
    }

    /// Returns a token that is cancelled when the run should end. Cancelling the returned token itself has no effect on the task.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.job.cancellation_token()
    }

    /// Takes the messages from people that arrived since the last call; the first call of an attempt returns all messages to the task so
    /// far.
    pub fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.job.messages))
    }

    /// Records the id of the run's episode.
    ///
    /// # Errors
    /// [`Error::Lost`], or the store cannot be written.
    pub async fn set_episode(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |task| {
            task.episode = Some(id.clone());
            vec![EventKind::Episode { id }]
        })
        .await
    }

    /// Records that the run is about to change something; await it before the first action with a side effect. Further calls write nothing.
    ///
    /// # Errors
    /// [`Error::Lost`], or the store cannot be written: then the action must not be carried out.
    pub async fn mark_acted(&self) -> Result<()> {
        if self.job.acted.load(Ordering::Acquire) {
            return Ok(());
        }
        self.change(|task| {
            task.acted = true;
            Vec::new()
        })
        .await?;
        self.job.acted.store(true, Ordering::Release);
        Ok(())
    }

    /// Asks a person to approve an action and waits for the decision. Meanwhile the worker is free for other tasks, and the lease cannot
    /// expire.
    ///
    /// # Errors
    /// [`Error::Lost`], or the store cannot be written.
    pub async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision> {
        let _one_at_a_time = self.job.requesting_approval.lock().await;
        let (sender, decided) = oneshot::channel();
        *lock(&self.job.decision_sender) = Some(sender);
        let _lease = LeaseSuspension::begin(&self.job);
        self.change(move |task| {
            task.state = TaskState::NeedsApproval;
            task.approval = Some(request.clone());
            vec![EventKind::ApprovalRequested(request)]
        })
        .await?;
        let waiting_permit = self.core.waiting_permits.clone().try_acquire_owned().ok();
        if waiting_permit.is_some() {
            drop(lock(&self.job.worker_permit).take());
            self.core.queue_changed.notify_one();
        }
        let cancellation = self.cancellation_token();
        let decision = tokio::select! {
            biased;
            Ok(decision) = decided => decision,
            () = cancellation.cancelled() => Decision::Ended(self.job.cancel_cause().unwrap_or(CancelCause::Cancelled)),
        };
        if let Decision::Ended(cause) = decision {
            self.withdraw_request(cause).await;
        } else if waiting_permit.is_some() {
            tokio::select! {
                Ok(permit) = self.core.worker_permits.clone().acquire_owned() => *lock(&self.job.worker_permit) = Some(permit),
                () = cancellation.cancelled() => {}
            }
        }
        Ok(decision)
    }

    /// Sets the task back to running if no person decided. In a drain the state is left unchanged, because a task that waits for a person
    /// becomes interrupted.
    async fn withdraw_request(&self, cause: CancelCause) {
        if cause == CancelCause::Drain {
            return;
        }
        let running = self.change(|task| {
            task.state = TaskState::Running;
            task.approval = None;
            Vec::new()
        });
        // An error means that the runner has lost the task, and nothing is left to withdraw.
        drop(running.await);
    }

    /// Writes a change to the task's record with the events that it returns, after the events that were emitted before.
    async fn change(&self, change: impl FnOnce(&mut TaskRecord) -> Vec<EventKind> + Send + 'static) -> Result<()> {
        self.heartbeat();
        let (core, job) = (self.core.clone(), self.job.clone());
        run_to_completion(async move {
            core.write_pending_events(&job).await?;
            let mut tx = core.store.begin().await?;
            let written = async {
                let mut task = tx.task(&job.id).await?;
                if !job.owns(&task) {
                    return Err(Error::Lost(job.id.clone()));
                }
                let kinds = change(&mut task);
                tx.update(&mut task, kinds).await
            };
            let written = written.await;
            tx.finish(written).await
        })
        .await
    }
}

/// Keeps the job's lease from expiring as long as it exists.
struct LeaseSuspension<'j>(&'j JobState);

impl<'j> LeaseSuspension<'j> {
    fn begin(job: &'j JobState) -> Self {
        job.awaits_approval.store(true, Ordering::Release);
        job.changed.notify_one();
        Self(job)
    }
}

impl Drop for LeaseSuspension<'_> {
    fn drop(&mut self) {
        self.0.heartbeat();
        self.0.awaits_approval.store(false, Ordering::Release);
        self.0.changed.notify_one();
    }
}
