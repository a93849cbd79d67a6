//! When a run begins by itself: at times of a cron pattern, or after so many new verified episodes.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Local, Utc};
use croner::Cron;
use milepost_runtime::EpisodeStore;
use milepost_runtime::store::TrainingQuery;
use tokio::sync::watch;

/// How often the store is asked for new episodes.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// A trigger.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A cron pattern of five fields, in local time.
    Times(Box<Cron>),
    /// So many verified episodes since the last run.
    Episodes(usize),
}

/// Reads a cron pattern such as `0 3 * * *`.
pub fn times(text: &str) -> Result<Trigger, String> {
    let cron = Cron::from_str(text);
    cron.map(|cron| Trigger::Times(Box::new(cron)))
        .map_err(|error| format!("{text:?} is no cron pattern ({error}); 0 3 * * * is at three each night"))
}

/// Reads `64-episodes`.
pub fn episodes(text: &str) -> Result<Trigger, String> {
    let count = text.strip_suffix("-episodes").and_then(|count| count.parse().ok()).filter(|count| *count > 0);
    count.map(Trigger::Episodes).ok_or_else(|| format!("{text:?} is no number of episodes; write it as 64-episodes"))
}

impl Trigger {
    /// Waits until it is time; `false` where somebody cancels first.
    ///
    /// # Errors
    /// A pattern that never comes true, or a store that cannot be read.
    pub async fn wait(&self, store: &dyn EpisodeStore, since: DateTime<Utc>, cancel: &mut watch::Receiver<bool>) -> Result<bool> {
        let due = async {
            match self {
                Self::Times(cron) => {
                    let now = Local::now();
                    let next = cron.find_next_occurrence(&now, false).context("the cron pattern never comes true")?;
                    let left = (next - now).to_std().unwrap_or_default();
                    tracing::info!(%next, "waiting");
                    tokio::time::sleep(left).await;
                }
                Self::Episodes(count) => {
                    let query = TrainingQuery { since: Some(since), from_suite: Some(false), ..TrainingQuery::default() };
                    while store.trainable(&query).await?.len() < *count {
                        tokio::time::sleep(ASK_EVERY).await;
                    }
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            () = async { drop(cancel.wait_for(|cancelled| *cancelled).await) } => Ok(false),
            due = due => due.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
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
    async fn a_trigger_waits_for_verified_episodes_of_ones_own_and_for_a_cancellation() {
        let directory = tempfile::tempdir().unwrap();
        let store = milepost_runtime::SqliteStore::open(directory.path()).await.unwrap();
        let (sender, mut cancel) = watch::channel(false);
        let begun = Utc::now();
        assert!(Trigger::Episodes(0).wait(&store, begun, &mut cancel).await.unwrap());
        let mut episode = milepost_runtime::Episode::begin(milepost_runtime::Task::new("x", "http://a.org/").unwrap(), "adaplan", "g");
        (episode.success, episode.ended_at, episode.stop) = (Some(true), Some(Utc::now()), Some(milepost_runtime::Stop::Answered));
        store.begin(&episode).await.unwrap();
        store.end(&episode).await.unwrap();
        assert!(Trigger::Episodes(1).wait(&store, begun, &mut cancel).await.unwrap());
        sender.send(true).unwrap();
        assert!(!Trigger::Episodes(2).wait(&store, begun, &mut cancel).await.unwrap());
    }
}
