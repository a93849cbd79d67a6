//! Removes tasks that ended long ago, and returns their disk space to the file system.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::core::Core;
use crate::error::Result;

/// Time between two removals.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Removes tasks older than `service.retention_days` until the service stops; returns at once if tasks are kept for ever.
pub(crate) async fn prune_old_tasks(core: Arc<Core>) {
    if core.config.retention_days == 0 {
        return;
    }
    loop {
        match prune(&core).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "old tasks were removed");
                if let Err(reason) = core.store.reclaim_space().await {
                    tracing::warn!(%reason, "the disk space of removed tasks was not given back");
                }
            }
            Err(error) => tracing::error!(%error, "old tasks cannot be removed"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Removes the tasks whose retention period is over; returns their number.
async fn prune(core: &Core) -> Result<u64> {
    let mut tx = core.store.begin().await?;
    let removed = tx.prune(Utc::now() - TimeDelta::days(core.config.retention_days.into())).await?;
    tx.commit().await?;
    Ok(removed)
}
