//! The dispatcher: starts queued tasks while workers are free, and ends tasks whose deadline passes while no runner has them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;

use crate::core::Core;
use crate::error::Result;
use crate::job::JobState;
use crate::lifecycle;
use crate::runner::Runner;
use crate::supervisor;

/// The maximum time between two checks of the queue.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Time to wait after the store could not be read or written.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Dispatches tasks until the service stops.
pub(crate) async fn dispatch(core: Arc<Core>, runner: Arc<dyn Runner>) {
    while !core.stop.is_cancelled() {
        let pause = match dispatch_due(&core, &runner).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "the queue cannot be read; trying again");
                STORE_RETRY
            }
        };
        tokio::select! {
            () = core.queue_changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = core.stop.cancelled() => {}
        }
    }
}

/// Ends expired tasks and starts as many queued ones as possible; returns the time until the next check of the queue.
async fn dispatch_due(core: &Arc<Core>, runner: &Arc<dyn Runner>) -> Result<Duration> {
    expire_overdue(core).await?;
    loop {
        if core.paused.load(Ordering::Acquire) || !start_next(core, runner).await? {
            break;
        }
    }
    let next = core.store.next_queue_time(Utc::now()).await?;
    Ok(next.map_or(MAX_PAUSE, |at| (at - Utc::now()).to_std().unwrap_or_default().clamp(Duration::from_millis(10), MAX_PAUSE)))
}

/// Ends the tasks without a runner whose deadline has passed.
async fn expire_overdue(core: &Core) -> Result<()> {
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    for mut task in tx.overdue(now).await? {
        let kind = lifecycle::expire(&mut task, now);
        tx.update(&mut task, vec![kind]).await?;
    }
    tx.commit().await?;
    core.outbox_changed.notify_one();
    Ok(())
}

/// Starts the next task; returns false if no task can start or no worker is free.
async fn start_next(core: &Arc<Core>, runner: &Arc<dyn Runner>) -> Result<bool> {
    let Ok(permit) = core.worker_permits.clone().try_acquire_owned() else { return Ok(false) };
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    if core.is_draining() {
        return tx.finish(Ok(false)).await;
    }
    let Some(mut task) = tx.next_to_start(core.config.per_caller_running, now).await? else { return tx.finish(Ok(false)).await };
    let started = lifecycle::start(&mut task, now);
    tx.update(&mut task, vec![started]).await?;
    let job = Arc::new(JobState::new(&task, permit, core.store.messages(&task.id).await?));
    // The job is registered before the commit, so that the job of every task with the state `running` can be found.
    core.jobs.insert(task.id.clone(), job.clone());
    if let Err(error) = tx.commit().await {
        core.jobs.remove(&task.id);
        return Err(error);
    }
    tokio::spawn(supervisor::run_job(core.clone(), runner.clone(), job, task));
    Ok(true)
}
