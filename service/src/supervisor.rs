//! Runs one task from its start to the record of its end, supervising its lease, its deadline and its cancellation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::task::{JoinError, JoinHandle};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::handle::TaskHandle;
use crate::job::JobState;
use crate::lifecycle::{self, RunEnd};
use crate::record::TaskRecord;
use crate::report::{Report, RunFailure};
use crate::runner::{Job, Runner};
use crate::state::CancelCause;
use crate::sync::lock;

/// Time that an aborted runner has to return; a runner that blocks its thread never does.
const ABORT_GRACE: Duration = Duration::from_secs(5);
/// Time to wait after the store could not be written.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Runs one task, and releases its worker at the end.
pub(crate) async fn run_job(core: Arc<Core>, runner: Arc<dyn Runner>, job: Arc<JobState>, task: TaskRecord) {
    let deadline = task.deadline;
    let handle = TaskHandle::new(core.clone(), job.clone());
    let run = tokio::spawn(async move { runner.run(Job { record: task, handle }).await });
    let supervisor = Supervisor { core: &core, job: &job, deadline: deadline.map(instant_of), run };
    if let Some(run_end) = supervisor.supervise().await {
        record_end(&core, &job, run_end).await;
    }
    core.jobs.remove(&job.id);
    drop(lock(&job.worker_permit).take());
    core.queue_changed.notify_one();
    core.outbox_changed.notify_one();
    core.job_removed.notify_waiters();
}

type Run = JoinHandle<Result<Report, RunFailure>>;

struct Supervisor<'w> {
    core: &'w Core,
    job: &'w JobState,
    deadline: Option<Instant>,
    run: Run,
}

impl Supervisor<'_> {
    /// Supervises the run until it ends; returns `None` if the service stops.
    async fn supervise(mut self) -> Option<RunEnd> {
        let (lease, grace) = (Duration::from_secs(self.core.config.lease_seconds), Duration::from_secs(self.core.config.cancel_seconds));
        let mut abort_at: Option<Instant> = None;
        loop {
            if self.job.cancel_cause().is_some() && abort_at.is_none() {
                abort_at = Some(Instant::now() + grace);
            }
            let lease_expires = self.job.lease_expires(lease);
            let deadline = self.deadline.filter(|_| abort_at.is_none());
            let next = [abort_at, lease_expires, deadline].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => {
                    self.run.abort();
                    return None;
                }
                ended = &mut self.run => return Some(run_end(ended)),
                () = self.job.changed.notified() => self.write_pending_events().await,
                () = sleep_until(next) => {
                    let now = Instant::now();
                    if abort_at.is_some_and(|at| at <= now) {
                        return Some(self.abort("it was told to end and did not").await);
                    }
                    if deadline.is_some_and(|at| at <= now) {
                        self.job.cancel(CancelCause::Deadline);
                    } else if self.job.lease_expires(lease).is_some_and(|at| at <= now) {
                        return Some(self.abort(&format!("its runner was silent for {} s", lease.as_secs())).await);
                    }
                }
            }
        }
    }

    async fn write_pending_events(&self) {
        match self.core.write_pending_events(self.job).await {
            Ok(()) => {}
            Err(error @ Error::Lost(_)) => tracing::warn!(%error, "events of a runner that lost its task"),
            Err(error) => {
                tracing::error!(%error, task = self.job.id, "events cannot be written; trying again");
                tokio::time::sleep(STORE_RETRY).await;
                self.job.changed.notify_one();
            }
        }
    }

    /// Aborts the run; if the run returns a report nevertheless, the report is used.
    async fn abort(&mut self, reason: &str) -> RunEnd {
        tracing::warn!(task = self.job.id, reason, "a runner is cut off");
        self.run.abort();
        match tokio::time::timeout(ABORT_GRACE, &mut self.run).await {
            Ok(Ok(Ok(report))) => RunEnd::Report(report),
            Ok(_) => RunEnd::Lost(reason.to_owned()),
            Err(_) => RunEnd::Lost(format!("{reason}, and it blocks its thread")),
        }
    }
}

fn run_end(run: Result<Result<Report, RunFailure>, JoinError>) -> RunEnd {
    match run {
        Ok(Ok(report)) => RunEnd::Report(report),
        Ok(Err(failure)) => RunEnd::Failure(failure),
        Err(error) => RunEnd::Lost(format!("its runner broke: {error}")),
    }
}

/// Records how a run ended. If the store cannot be written it tries again until it can, because nothing else would ever end the task.
async fn record_end(core: &Core, job: &JobState, run_end: RunEnd) {
    loop {
        match write_end(core, job, &run_end).await {
            Ok(()) => return,
            Err(error @ (Error::Lost(_) | Error::NotFound(_))) => {
                tracing::warn!(%error, "a runner's end is not written");
                return;
            }
            Err(error) => tracing::error!(%error, task = job.id, "the end of a task cannot be written; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(STORE_RETRY) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

async fn write_end(core: &Core, job: &JobState, run_end: &RunEnd) -> Result<()> {
    core.write_pending_events(job).await?;
    let mut tx = core.store.begin().await?;
    let written = async {
        let mut task = tx.task(&job.id).await?;
        if !job.owns(&task) {
            return Err(Error::Lost(job.id.clone()));
        }
        let kind = lifecycle::finish(&mut task, run_end.clone(), job.cancel_cause(), &core.config, Utc::now());
        tx.update(&mut task, vec![kind]).await
    };
    let written = written.await;
    tx.finish(written).await
}

/// Converts a date and time to an instant, by the present difference between the two clocks.
fn instant_of(at: DateTime<Utc>) -> Instant {
    Instant::now() + (at - Utc::now()).to_std().unwrap_or_default()
}

/// Sleeps until an instant; for ever if there is none.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
