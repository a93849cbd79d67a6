//! Shuts the service down in an orderly way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Core;
use crate::error::Result;
use crate::state::{CancelCause, TaskState};
use crate::stats::Drained;
use crate::{lifecycle, recovery};

/// Lets running tasks end, then cancels those that have not ended, then aborts the rest, all within the time limit.
///
/// # Errors
/// The store cannot be read or written.
pub(crate) async fn drain(core: &Arc<Core>, time_limit: Duration) -> Result<Drained> {
    let ends = Instant::now() + time_limit;
    core.draining.store(true, Ordering::Release);
    // The empty transaction waits until a task that was being started when the flag was set has started; no task starts after it.
    core.store.begin().await?.commit().await?;
    let ids: Vec<String> = core.jobs.iter().map(|job| job.id.clone()).collect();
    for job in core.jobs.iter().filter(|job| job.awaits_approval.load(Ordering::Acquire)) {
        job.cancel(CancelCause::Drain);
    }
    let grace = Duration::from_secs(core.config.cancel_seconds).min(time_limit / 2);
    wait_for_jobs(core, ends - grace).await;
    for job in core.jobs.iter() {
        job.cancel(CancelCause::Drain);
    }
    wait_for_jobs(core, ends).await;
    core.stop.cancel();
    recovery::recover_tasks(core, lifecycle::shut_down).await?;
    core.events_ended.cancel();
    let mut drained = Drained::default();
    for id in ids {
        match core.store.get(&id).await?.state {
            TaskState::Queued => drained.requeued += 1,
            TaskState::Interrupted => drained.interrupted += 1,
            _ => drained.finished += 1,
        }
    }
    Ok(drained)
}

/// Waits until no task is running, but not beyond a time.
async fn wait_for_jobs(core: &Core, until: Instant) {
    loop {
        let removed = core.job_removed.notified();
        tokio::pin!(removed);
        removed.as_mut().enable();
        if core.jobs.is_empty() {
            return;
        }
        tokio::select! {
            () = removed => {}
            () = tokio::time::sleep_until(until) => return,
        }
    }
}
