//! Recovers tasks whose runners are gone.

use chrono::{DateTime, Utc};

use crate::config::ServiceConfig;
use crate::core::Core;
use crate::error::Result;
use crate::event::EventKind;
use crate::record::TaskRecord;

/// Applies a transition to every task that still has a runner according to its record, although no runner exists any more.
///
/// # Errors
/// The store cannot be read or written.
pub(crate) async fn recover_tasks(core: &Core, transition: fn(&mut TaskRecord, &ServiceConfig, DateTime<Utc>) -> EventKind) -> Result<()> {
    let now = Utc::now();
    let mut tx = core.store.begin().await?;
    for mut task in tx.with_runner().await? {
        let kind = transition(&mut task, &core.config, now);
        tracing::info!(task = task.id, state = %task.state, "its runner is gone");
        tx.update(&mut task, vec![kind]).await?;
    }
    tx.commit().await
}
