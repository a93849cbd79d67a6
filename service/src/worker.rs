//! Workers: permit → runner → release, each task watched by a supervisor that knows its lease, its deadline and who wants it to end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::task::{JoinError, JoinHandle};

use crate::config::ServiceConfig;
use crate::core::Core;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::feed::lock;
use crate::job::JobState;
use crate::lifecycle::{self, Ending};
use crate::record::{Cause, TaskRecord};
use crate::runner::{Job, Report, RunFailure};
use crate::store::Turn;

/// The queue is looked at so often even where nothing is said to have changed.
const LOOK: Duration = Duration::from_secs(60);
/// Time that an aborted runner has to let go; one that blocks its thread never does.
const LET_GO: Duration = Duration::from_secs(5);
/// Wait before a store that cannot write is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Starts tasks as long as there are places, and ends those whose deadline passes while they wait.
pub(crate) async fn dispatch(core: Arc<Core>) {
    while !core.stop.is_cancelled() {
        let pause = match look(&core).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "the queue cannot be read; trying again");
                STORE_RETRY
            }
        };
        tokio::select! {
            () = core.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = core.stop.cancelled() => {}
        }
    }
}

/// Looks at the queue once; returns after which time to look again.
async fn look(core: &Arc<Core>) -> Result<Duration> {
    expire(core).await?;
    loop {
        if core.paused.load(Ordering::Acquire) || !start_next(core).await? {
            break;
        }
    }
    let next = core.store.next_moment(Utc::now()).await?;
    Ok(next.map_or(LOOK, |at| (at - Utc::now()).to_std().unwrap_or_default().clamp(Duration::from_millis(10), LOOK)))
}

async fn expire(core: &Core) -> Result<()> {
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    for mut task in tx.expired(now).await? {
        let kind = lifecycle::expire(&mut task, now);
        tx.put(&mut task, vec![kind]).await?;
    }
    tx.commit().await?;
    core.post.notify_one();
    Ok(())
}

/// Starts the task whose turn it is; false where there is none, or no place.
async fn start_next(core: &Arc<Core>) -> Result<bool> {
    let Ok(permit) = core.places.clone().try_acquire_owned() else { return Ok(false) };
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    if core.is_draining() {
        return Ok(false);
    }
    let Some(mut task) = tx.next(&Turn { per_caller: core.config.per_caller_running, now }).await? else { return Ok(false) };
    let started = lifecycle::start(&mut task, now);
    tx.put(&mut task, vec![started]).await?;
    let job = Arc::new(JobState::new(&task, permit, core.store.messages(&task.id).await?));
    // Known before the commit: whoever finds the task running finds its job.
    lock(&core.jobs).insert(task.id.clone(), job.clone());
    if let Err(error) = tx.commit().await {
        lock(&core.jobs).remove(&task.id);
        return Err(error);
    }
    tokio::spawn(work(core.clone(), job, task));
    Ok(true)
}

/// Carries one task out, from its start to its record of the end.
async fn work(core: Arc<Core>, job: Arc<JobState>, task: TaskRecord) {
    let deadline = task.deadline;
    let (runner, desk) = (core.ports.runner.clone(), Desk { core: core.clone(), job: job.clone() });
    let run = tokio::spawn(async move { runner.run(Job { record: task, desk }).await });
    let supervisor = Supervisor { core: &core, job: &job, deadline: deadline.map(instant), run };
    if let Some(ending) = supervisor.watch().await {
        finish(&core, &job, ending).await;
    }
    lock(&core.jobs).remove(&job.id);
    drop(lock(&job.permit).take());
    core.wake.notify_one();
    core.post.notify_one();
    core.left.notify_waiters();
}

type Run = JoinHandle<Result<Report, RunFailure>>;

struct Supervisor<'w> {
    core: &'w Core,
    job: &'w JobState,
    deadline: Option<Instant>,
    run: Run,
}

impl Supervisor<'_> {
    /// Watches a run until it lets go; `None` where the service stops.
    async fn watch(mut self) -> Option<Ending> {
        let (lease, grace) = (Duration::from_secs(self.core.config.lease_seconds), Duration::from_secs(self.core.config.cancel_seconds));
        let mut told: Option<Instant> = None;
        loop {
            if self.job.cause().is_some() && told.is_none() {
                told = Some(Instant::now() + grace);
            }
            let lease_ends = self.job.lease_ends(lease);
            let deadline = self.deadline.filter(|_| told.is_none());
            let next = [told, lease_ends, deadline].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => {
                    self.run.abort();
                    return None;
                }
                ended = &mut self.run => return Some(ending(ended)),
                () = self.job.wake.notified() => self.record().await,
                () = until(next) => {
                    let now = Instant::now();
                    if told.is_some_and(|at| at <= now) {
                        return Some(self.cut("it was told to end and did not").await);
                    }
                    if deadline.is_some_and(|at| at <= now) {
                        self.job.end(Cause::Deadline);
                    } else if self.job.lease_ends(lease).is_some_and(|at| at <= now) {
                        return Some(self.cut(&format!("its runner was silent for {} s", lease.as_secs())).await);
                    }
                }
            }
        }
    }

    async fn record(&self) {
        match self.core.record(self.job).await {
            Ok(()) => {}
            Err(error @ Error::Lost(_)) => tracing::warn!(%error, "events of a runner that lost its task"),
            Err(error) => {
                tracing::error!(%error, task = self.job.id, "events cannot be written; trying again");
                tokio::time::sleep(STORE_RETRY).await;
                self.job.wake.notify_one();
            }
        }
    }

    /// Cuts the run off.
    async fn cut(&mut self, reason: &str) -> Ending {
        tracing::warn!(task = self.job.id, reason, "a runner is cut off");
        self.run.abort();
        match tokio::time::timeout(LET_GO, &mut self.run).await {
            Ok(Ok(Ok(report))) => Ending::Report(report),
            Ok(_) => Ending::Lost(reason.to_owned()),
            Err(_) => Ending::Lost(format!("{reason}, and it blocks its thread")),
        }
    }
}

fn ending(run: Result<Result<Report, RunFailure>, JoinError>) -> Ending {
    match run {
        Ok(Ok(report)) => Ending::Report(report),
        Ok(Err(failure)) => Ending::Failure(failure),
        Err(error) => Ending::Lost(format!("its runner broke: {error}")),
    }
}

/// Writes down how a run ended; a store that cannot write is tried until it can, since nothing else would ever end the task.
async fn finish(core: &Core, job: &JobState, ending: Ending) {
    loop {
        match write_end(core, job, &ending).await {
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

async fn write_end(core: &Core, job: &JobState, ending: &Ending) -> Result<()> {
    core.record(job).await?;
    let mut tx = core.store.begin().await?;
    let mut task = tx.task(&job.id).await?;
    if !job.holds(&task) {
        return Err(Error::Lost(job.id.clone()));
    }
    let cause = job.cause();
    let kind = lifecycle::settle(&mut task, ending.clone(), cause, &core.config, Utc::now());
    tx.put(&mut task, vec![kind]).await?;
    tx.commit().await
}

/// Takes up what runners had in hand that are gone.
pub(crate) async fn recover(core: &Core, loss: fn(&mut TaskRecord, &ServiceConfig, DateTime<Utc>) -> EventKind) -> Result<()> {
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    for mut task in tx.held().await? {
        let kind = loss(&mut task, &core.config, now);
        tracing::info!(task = task.id, state = %task.state, "its runner is gone");
        tx.put(&mut task, vec![kind]).await?;
    }
    tx.commit().await
}

/// The instant of a time of day, as far as the clocks agree now.
fn instant(at: DateTime<Utc>) -> Instant {
    Instant::now() + (at - Utc::now()).to_std().unwrap_or_default()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
