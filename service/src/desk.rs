//! Where a runner reports and asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{oneshot, watch};

use crate::core::{Core, apart};
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::feed::lock;
use crate::job::JobState;
use crate::record::{ApprovalRequest, Cause, Decision, TaskRecord, TaskState};

/// A runner's desk: cheap to clone, and dead as soon as the task is not this runner's any more.
#[derive(Clone)]
pub struct Desk {
    pub(crate) core: Arc<Core>,
    pub(crate) job: Arc<JobState>,
}

impl Desk {
    /// Reports an event (of the kinds plan, milestone, step) and renews the lease. It is written down in order, soon, and before the task ends.
    pub fn emit(&self, kind: EventKind) {
        self.beat();
        lock(&self.job.pending).push(kind);
        self.job.wake.notify_one();
    }

    /// Renews the lease: for long work between two events.
    pub fn beat(&self) {
        self.job.beat();
    }

    /// Becomes true when the run should end.
    pub fn cancel(&self) -> watch::Receiver<bool> {
        self.job.cancelled()
    }

    /// What people said since this was last called; the first call of an attempt returns all that was ever said.
    pub fn messages(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.job.messages))
    }

    /// Writes the episode's id to the task as soon as it is known.
    ///
    /// # Errors
    /// [`Error::Lost`], or a store that cannot write.
    pub async fn episode(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |task| {
            task.episode = Some(id.clone());
            vec![EventKind::Episode { id }]
        })
        .await
    }

    /// Writes down that the run is about to change something: awaited before the first action with a side effect. Later calls cost nothing.
    ///
    /// # Errors
    /// [`Error::Lost`], or a store that cannot write: then the action must not be carried out.
    pub async fn acted(&self) -> Result<()> {
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

    /// Asks a person and waits; the worker is free meanwhile, and the lease does not run.
    ///
    /// # Errors
    /// [`Error::Lost`], or a store that cannot write.
    pub async fn ask(&self, request: ApprovalRequest) -> Result<Decision> {
        let _one = self.job.asking.lock().await;
        let (sender, decided) = oneshot::channel();
        *lock(&self.job.decision) = Some(sender);
        let _waiting = Waiting::begin(&self.job);
        self.change(move |task| {
            task.state = TaskState::NeedsApproval;
            task.approval = Some(request.clone());
            vec![EventKind::ApprovalRequested(request)]
        })
        .await?;
        let room = self.core.rooms.clone().try_acquire_owned().ok();
        if room.is_some() {
            drop(lock(&self.job.permit).take());
            self.core.wake.notify_one();
        }
        let mut cancel = self.cancel();
        let decision = tokio::select! {
            biased;
            Ok(decision) = decided => decision,
            _ = cancel.wait_for(|cancelled| *cancelled) => Decision::Ended(self.job.cause().unwrap_or(Cause::Cancelled)),
        };
        if let Decision::Ended(cause) = decision {
            // A drain leaves it as it is: whoever waits for a person is interrupted.
            if cause != Cause::Drain {
                let running = self.change(|task| {
                    task.state = TaskState::Running;
                    task.approval = None;
                    Vec::new()
                });
                // Where the task is lost meanwhile, there is nothing to set right.
                drop(running.await);
            }
            return Ok(decision);
        }
        if room.is_some() {
            tokio::select! {
                Ok(permit) = self.core.places.clone().acquire_owned() => *lock(&self.job.permit) = Some(permit),
                _ = cancel.wait_for(|cancelled| *cancelled) => {}
            }
        }
        Ok(decision)
    }

    /// Writes a change to the task, after the events that were reported before it.
    async fn change(&self, change: impl FnOnce(&mut TaskRecord) -> Vec<EventKind> + Send + 'static) -> Result<()> {
        self.beat();
        let (core, job) = (self.core.clone(), self.job.clone());
        apart(async move {
            core.record(&job).await?;
            let mut tx = core.store.begin().await?;
            let mut task = tx.task(&job.id).await?;
            if !job.holds(&task) {
                return Err(Error::Lost(job.id.clone()));
            }
            let kinds = change(&mut task);
            tx.put(&mut task, kinds).await?;
            tx.commit().await
        })
        .await
    }
}

/// While it lives, the job's lease does not run.
struct Waiting<'j>(&'j JobState);

impl<'j> Waiting<'j> {
    fn begin(job: &'j JobState) -> Self {
        job.waiting.store(true, Ordering::Release);
        job.wake.notify_one();
        Self(job)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.beat();
        self.0.waiting.store(false, Ordering::Release);
        self.0.wake.notify_one();
    }
}
