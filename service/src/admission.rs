//! Admits submissions to the queue.

use chrono::Utc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::lifecycle;
use crate::listing::Submitted;
use crate::store::Tx;
use crate::submission::Submission;

/// Queues a new task, or returns the task that the caller submitted before with the same idempotency key.
///
/// # Errors
/// `KeyReused`, `Draining`, `Invalid` for a deadline that has passed, `Full`, `TooMany`, or the store cannot be read or written.
pub(crate) async fn submit(core: &Core, caller: &str, submission: Submission) -> Result<Submitted> {
    let mut tx = core.store.begin().await?;
    let submitted = admit(core, &mut tx, caller, submission).await;
    let submitted = tx.finish(submitted).await?;
    core.queue_changed.notify_one();
    Ok(submitted)
}

async fn admit(core: &Core, tx: &mut Tx<'_>, caller: &str, submission: Submission) -> Result<Submitted> {
    let (config, retry_after) = (&core.config, core.config.retry_after_seconds);
    if let Some(key) = &submission.idempotency_key
        && let Some((record, hash)) = tx.task_by_key(caller, key).await?
    {
        return match hash == submission.hash() {
            true => Ok(Submitted { record, repeated: true }),
            false => Err(Error::KeyReused { key: key.clone(), task: record.id }),
        };
    }
    if core.is_draining() {
        return Err(Error::Draining { retry_after });
    }
    submission.check_deadline()?;
    let (queued, queued_by_caller) = tx.count_queued(caller).await?;
    if queued >= config.queue_limit {
        return Err(Error::Full { limit: config.queue_limit, retry_after });
    }
    if queued_by_caller >= config.per_caller_queued {
        return Err(Error::TooMany { caller: caller.to_owned(), limit: config.per_caller_queued, retry_after });
    }
    let mut record = lifecycle::admit(caller, submission, config, Utc::now());
    tx.insert(&record).await?;
    tx.update(&mut record, vec![EventKind::Queued { reason: None }]).await?;
    Ok(Submitted { record, repeated: false })
}
