//! Delivers the webhooks in the outbox, retrying with growing waits.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use url::Url;

use crate::core::Core;
use crate::error::Result;
use crate::store::OutboxEntry;
use crate::webhook::{SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookRequest, WebhookSender, signature};

/// The maximum number of webhooks that are sent at once.
const CONCURRENCY: usize = 4;
/// The maximum number of webhooks that are read from the outbox at once.
const BATCH: u32 = 32;
/// The maximum time between two checks of the outbox.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Delivers webhooks until the service stops.
pub(crate) async fn deliver_webhooks(core: Arc<Core>, sender: Arc<dyn WebhookSender>) {
    while !core.stop.is_cancelled() {
        let round = async {
            let pause = deliver_due(&core, &*sender).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the outbox cannot be read or written; trying again");
                Duration::from_secs(1)
            });
            tokio::select! {
                () = core.outbox_changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        tokio::select! {
            () = round => {}
            () = core.stop.cancelled() => {}
        }
    }
}

/// Attempts each webhook that is due; returns the time until the next check of the outbox.
async fn deliver_due(core: &Core, sender: &dyn WebhookSender) -> Result<Duration> {
    loop {
        let due = core.store.due_webhooks(Utc::now(), BATCH).await?;
        if due.is_empty() {
            break;
        }
        let attempted: Vec<Result<()>> =
            stream::iter(due).map(|entry| attempt(core, sender, entry)).buffer_unordered(CONCURRENCY).collect().await;
        attempted.into_iter().collect::<Result<()>>()?;
    }
    let next = core.store.next_due().await?;
    Ok(next.map_or(MAX_PAUSE, |at| (at - Utc::now()).to_std().unwrap_or_default().clamp(Duration::from_millis(10), MAX_PAUSE)))
}

/// Attempts one webhook and records the outcome in the outbox.
async fn attempt(core: &Core, sender: &dyn WebhookSender, entry: OutboxEntry) -> Result<()> {
    let config = &core.config.webhooks;
    let outcome = match Url::parse(&entry.url) {
        Err(error) => Err(error.to_string()),
        Ok(url) => {
            let request = signed_request(core, &entry, url);
            match tokio::time::timeout(Duration::from_secs(config.timeout_seconds), sender.send(&request)).await {
                Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
                Ok(Ok(status)) => Err(format!("the receiver answered {status}")),
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err(format!("no answer within {} s", config.timeout_seconds)),
            }
        }
    };
    match outcome {
        Ok(()) => core.store.remove_delivered(&entry.id).await,
        Err(reason) => {
            let tries = entry.attempts + 1;
            let wait = backoff(config.backoff_seconds, config.backoff_limit_seconds, entry.attempts);
            let next = (tries < config.attempts).then(|| Utc::now() + wait);
            tracing::warn!(webhook = entry.id, tries, %reason, given_up = next.is_none(), "a webhook was not delivered");
            core.store.record_failed_attempt(&entry.id, &reason, next).await
        }
    }
}

fn signed_request(core: &Core, entry: &OutboxEntry, url: Url) -> WebhookRequest {
    let now = Utc::now().timestamp();
    let headers = vec![
        ("Content-Type", "application/json".to_owned()),
        (TIMESTAMP_HEADER, now.to_string()),
        (SIGNATURE_HEADER, signature(&core.webhook_key, now, &entry.body)),
    ];
    WebhookRequest { id: entry.id.clone(), url, headers, body: entry.body.clone() }
}

/// Returns the wait after a failed attempt: `first` seconds, doubled for each attempt that had failed before it, up to a limit.
fn backoff(first: u64, limit: u64, failed_before: u32) -> TimeDelta {
    let wait = first.saturating_mul(1 << failed_before.min(30)).min(limit);
    TimeDelta::seconds(i64::try_from(wait).unwrap_or(i64::MAX / 1000))
}

#[cfg(test)]
mod tests {
    #[test]
    fn waits_double_up_to_a_limit() {
        let waits: Vec<i64> = (0..5).map(|failed| super::backoff(5, 30, failed).num_seconds()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
    }
}
