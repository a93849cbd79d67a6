//! Explains why a recorded episode failed.

use milepost_runtime::{Episode, EpisodeStore, SqliteStore};
use serde::Serialize;

use super::decision::{KeyDecision, key_decision};
use super::{FailureClass, FailureConfig, classify};
use crate::error::Result;

/// The maximum number of successes of the same task that a failure is compared with; the newest are taken.
const MAX_PEERS: u32 = 16;

/// Why an episode failed.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The episode's id.
    pub episode: String,
    /// The verified outcome; `None` if it was never verified.
    pub success: Option<bool>,
    /// The class of the failure; `None` if the episode was not verified as a failure.
    pub class: Option<FailureClass>,
    /// The step that decided the failure; `None` if no step stands out.
    pub key: Option<KeyDecision>,
}

/// Explains an episode, by comparison with the successes of its task in the store.
///
/// # Errors
/// The store cannot be read.
pub async fn explain(store: &SqliteStore, config: &FailureConfig, episode: &Episode) -> Result<Explanation> {
    let class = classify(config, episode);
    let key = if class.is_some() { key_decision(config, episode, &peers(store, episode).await?) } else { None };
    Ok(Explanation { episode: episode.id.clone(), success: episode.success, class, key })
}

/// Loads the newest successes of an episode's task.
async fn peers(store: &SqliteStore, episode: &Episode) -> Result<Vec<Episode>> {
    let mut peers = Vec::new();
    for id in store.successes(&episode.task.goal, MAX_PEERS).await? {
        let peer = store.load(&id).await?;
        peers.extend(peer.filter(|peer| peer.task.start_url == episode.task.start_url && peer.task.source == episode.task.source));
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use milepost_runtime::Stop;

    use super::*;
    use crate::failures::DecisionReason;
    use crate::failures::tests::episode;

    /// Records an episode that takes this action on its only page; returns it.
    async fn recorded(store: &SqliteStore, start: &str, success: Option<bool>, action: &str) -> Episode {
        let mut one = episode(Stop::Answered, success, &[action]);
        one.task.start_url = start.parse().unwrap();
        store.begin(&one).await.unwrap();
        store.step(&one.id, &one.steps[0]).await.unwrap();
        store.end(&one).await.unwrap();
        one
    }

    #[tokio::test]
    async fn a_failure_is_compared_with_successes_of_its_own_task_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).await.unwrap();
        let good = recorded(&store, "http://shop.local/", Some(true), "click 1").await;
        recorded(&store, "http://other.local/", Some(true), "click 2").await;
        let failed = recorded(&store, "http://shop.local/", Some(false), "click 3").await;
        let explain = async |episode: &Episode| explain(&store, &FailureConfig::default(), episode).await.unwrap();
        let found = explain(&failed).await;
        assert_eq!((found.success, found.class), (Some(false), Some(FailureClass::WrongTermination)));
        let diverged = DecisionReason::Diverged { from: good.id.clone(), instead: "click 1".into() };
        assert_eq!(found.key, Some(KeyDecision { turn: 0, action: "click 3".into(), reason: diverged }));
        let success = explain(&good).await;
        assert!(success.class.is_none() && success.key.is_none(), "a success is not explained");
    }
}
