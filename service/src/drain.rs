//! Ending in good order, and keeping the store small.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::time::Instant;

use crate::core::Core;
use crate::error::Result;
use crate::feed::lock;
use crate::record::{Cause, Drained, TaskState};
use crate::{lifecycle, worker};

/// Old tasks are looked for so often.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Lets running tasks end, asks those that do not to end, and cuts off those that do not do that either, all within the bound.
pub(crate) async fn drain(core: &Arc<Core>, bound: Duration) -> Result<Drained> {
    let ends = Instant::now() + bound;
    core.draining.store(true, Ordering::Release);
    // A start that was under way when the flag was set is in the list after the next change; none follows.
    core.store.begin().await?.commit().await?;
    let ids: Vec<String> = lock(&core.jobs).keys().cloned().collect();
    for job in lock(&core.jobs).values().filter(|job| job.waiting.load(Ordering::Acquire)) {
        job.end(Cause::Drain);
    }
    let grace = Duration::from_secs(core.config.cancel_seconds).min(bound / 2);
    empty(core, ends - grace).await;
    for job in lock(&core.jobs).values() {
        job.end(Cause::Drain);
    }
    empty(core, ends).await;
    core.stop.cancel();
    worker::recover(core, lifecycle::shut).await?;
    core.silent.cancel();
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

/// Waits until no runner has a task, but not beyond a time.
async fn empty(core: &Core, until: Instant) {
    loop {
        let left = core.left.notified();
        tokio::pin!(left);
        left.as_mut().enable();
        if lock(&core.jobs).is_empty() {
            return;
        }
        tokio::select! {
            () = left => {}
            () = tokio::time::sleep_until(until) => return,
        }
    }
}

/// Removes tasks that ended long ago, until the service stops.
pub(crate) async fn prune(core: Arc<Core>) {
    if core.config.retention_days == 0 {
        return;
    }
    loop {
        match prune_once(&core).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old tasks were removed"),
            Err(error) => tracing::error!(%error, "old tasks cannot be removed"),
        }
        tokio::select! {
            () = tokio::time::sleep(PRUNE_EVERY) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

async fn prune_once(core: &Core) -> Result<u64> {
    let mut tx = core.store.begin().await?;
    let removed = tx.prune(Utc::now() - TimeDelta::days(core.config.retention_days.into())).await?;
    tx.commit().await?;
    Ok(removed)
}
