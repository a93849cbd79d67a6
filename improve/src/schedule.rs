//! Triggers that start runs: the times of a cron pattern, or a number of new verified episodes.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use croner::Cron;
use milepost_runtime::EpisodeStore;
use milepost_runtime::store::TrainingQuery;
use tokio_util::sync::CancellationToken;

use crate::error::{Result, ResultExt};

/// The interval between two checks of the store for new episodes.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// A condition that starts a run.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// The times of a cron pattern of five fields, in local time.
    Times(Box<Cron>),
    /// This number of verified episodes since the last run.
    Episodes(usize),
}

/// Parses a cron pattern such as `0 3 * * *`.
///
/// # Errors
/// The text is no cron pattern.
pub fn times(text: &str) -> Result<Trigger, String> {
    let cron = Cron::from_str(text);
    cron.map(|cron| Trigger::Times(Box::new(cron)))
        .map_err(|error| format!("{text:?} is no cron pattern ({error}); 0 3 * * * is at three each night"))
}

/// Parses a number of episodes such as `64-episodes`.
///
/// # Errors
/// The text has another form, or the number is 0.
pub fn episodes(text: &str) -> Result<Trigger, String> {
    let count = text.strip_suffix("-episodes").and_then(|count| count.parse().ok()).filter(|count| *count > 0);
    count.map(Trigger::Episodes).ok_or_else(|| format!("{text:?} is no number of episodes; write it as 64-episodes"))
}

impl Trigger {
    /// Waits until a run is due; returns `false` if `cancel` comes first. Only episodes since `since` count.
    ///
    /// # Errors
    /// The pattern never matches, or the store cannot be read.
    pub async fn wait(&self, store: &dyn EpisodeStore, since: DateTime<Utc>, cancel: &CancellationToken) -> Result<bool> {
        let due = async {
            match self {
                Self::Times(cron) => {
                    let now = Local::now();
                    let next = cron.find_next_occurrence(&now, false).ok().context("the cron pattern never comes true")?;
                    let left = (next - now).to_std().unwrap_or_default();
                    tracing::info!(%next, "waiting");
                    tokio::time::sleep(left).await;
                }
                Self::Episodes(count) => {
                    let query = TrainingQuery { since: Some(since), from_suite: Some(false), ..TrainingQuery::default() };
                    while store.trainable(&query).await?.len() < *count {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(false),
            due = due => due.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use milepost_runtime::{Episode, SqliteStore, Stop, Task};

    use super::*;

    #[test]
    fn triggers_are_read_or_refused() {
        assert!(matches!(episodes("64-episodes"), Ok(Trigger::Episodes(64))));
        for wrong in ["64", "0-episodes", "x-episodes"] {
            assert!(episodes(wrong).is_err(), "{wrong}");
        }
        assert!(times("0 3 * * *").is_ok() && times("at three").is_err());
    }

    #[tokio::test]
    async fn a_trigger_waits_for_verified_episodes_of_own_tasks_or_a_cancellation() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).await.unwrap();
        let (cancel, begun) = (CancellationToken::new(), Utc::now());
        assert!(Trigger::Episodes(0).wait(&store, begun, &cancel).await.unwrap());
        let mut episode = Episode::begin(Task::new("x", "http://a.org/").unwrap(), "adaplan", "g");
        (episode.success, episode.ended_at, episode.stop) = (Some(true), Some(Utc::now()), Some(Stop::Answered));
        store.begin(&episode).await.unwrap();
        store.end(&episode).await.unwrap();
        assert!(Trigger::Episodes(1).wait(&store, begun, &cancel).await.unwrap());
        cancel.cancel();
        assert!(!Trigger::Episodes(2).wait(&store, begun, &cancel).await.unwrap());
    }
}
