//! The postman: delivers what lies in the outbox, and tries again with growing waits.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use url::Url;

use crate::core::Core;
use crate::error::Result;
use crate::store::Letter;
use crate::webhook::{Delivery, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature};

/// Letters that are under way at once, and that are looked up at once.
const AT_ONCE: usize = 4;
const BATCH: u32 = 32;
/// The outbox is looked at so often even where nothing is said to have changed.
const LOOK: Duration = Duration::from_secs(60);

/// Delivers webhooks until the service stops.
pub(crate) async fn deliver(core: Arc<Core>) {
    while !core.stop.is_cancelled() {
        let round = async {
            let pause = round(&core).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the outbox cannot be read or written; trying again");
                Duration::from_secs(1)
            });
            tokio::select! {
                () = core.post.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        tokio::select! {
            () = round => {}
            () = core.stop.cancelled() => {}
        }
    }
}

/// Tries what is due once; returns after which time to look again.
async fn round(core: &Core) -> Result<Duration> {
    loop {
        let due = core.store.due(Utc::now(), BATCH).await?;
        if due.is_empty() {
            break;
        }
        let tried: Vec<Result<()>> = stream::iter(due).map(|letter| attempt(core, letter)).buffer_unordered(AT_ONCE).collect().await;
        tried.into_iter().collect::<Result<()>>()?;
    }
    let next = core.store.next_due().await?;
    Ok(next.map_or(LOOK, |at| (at - Utc::now()).to_std().unwrap_or_default().clamp(Duration::from_millis(10), LOOK)))
}

async fn attempt(core: &Core, letter: Letter) -> Result<()> {
    let config = &core.config.webhooks;
    let outcome = match Url::parse(&letter.url) {
        Err(error) => Err(error.to_string()),
        Ok(url) => {
            let delivery = envelope(core, &letter, url);
            match tokio::time::timeout(Duration::from_secs(config.timeout_seconds), core.ports.deliver.deliver(&delivery)).await {
                Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
                Ok(Ok(status)) => Err(format!("the receiver answered {status}")),
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err(format!("no answer within {} s", config.timeout_seconds)),
            }
        }
    };
    match outcome {
        Ok(()) => core.store.delivered(&letter.id).await,
        Err(reason) => {
            let tries = letter.attempts + 1;
            let wait = backoff(config.backoff_seconds, config.backoff_limit_seconds, letter.attempts);
            let next = (tries < config.attempts).then(|| Utc::now() + wait);
            tracing::warn!(webhook = letter.id, tries, %reason, given_up = next.is_none(), "a webhook was not delivered");
            core.store.undeliverable(&letter.id, &reason, next).await
        }
    }
}

fn envelope(core: &Core, letter: &Letter, url: Url) -> Delivery {
    let now = Utc::now().timestamp();
    let headers = vec![
        ("Content-Type", "application/json".to_owned()),
        (TIMESTAMP_HEADER, now.to_string()),
        (SIGNATURE_HEADER, signature(&core.webhook_key, now, &letter.body)),
    ];
    Delivery { id: letter.id.clone(), url, headers, body: letter.body.clone() }
}

/// The wait after so many failed tries before this one: it doubles up to a limit.
fn backoff(first: u64, limit: u64, failed: u32) -> TimeDelta {
    let wait = first.saturating_mul(1 << failed.min(30)).min(limit);
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
