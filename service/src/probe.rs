//! Writes to the database at regular times, so that a database that cannot be written is noticed before a task is submitted.

use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;

/// The time between two probes.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time between a failed write and the probe that follows.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Probes the database until the service stops.
pub(crate) async fn probe_writes(core: Arc<Core>) {
    loop {
        if let Err(error) = core.store.probe().await {
            tracing::error!(%error, "the queue's database cannot be written");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = core.store.health.changed.notified() => tokio::time::sleep(AFTER_FAILURE).await,
            () = core.stop.cancelled() => return,
        }
    }
}
