//! What the store lets into training.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{Action, Episode, EpisodeStore, Observation, Outcome, Revision, Source, Split, SqliteStore, Step, Stop, Task};

/// Records one finished episode and returns its id.
async fn record(store: &SqliteStore, url: &str, change: impl FnOnce(&mut Episode)) -> String {
    let mut episode = Episode::begin(Task::new("x", url).unwrap(), "adaplan", "abc");
    (episode.stop, episode.success, episode.ended_at) = (Some(Stop::Answered), Some(true), Some(chrono::Utc::now()));
    change(&mut episode);
    store.begin(&episode).await.unwrap();
    store.end(&episode).await.unwrap();
    episode.id
}

/// A turn on a page of this address.
fn seen_on(url: &str) -> Step {
    Step {
        turn: 0,
        observation: Observation { url: url.into(), ..Observation::default() },
        revision: Revision::Keep,
        plan_version: 0,
        cursor: 0,
        action: Action::Back,
        outcome: Outcome::done(),
        calls: Vec::new(),
        reached: Vec::new(),
        timing: Default::default(),
        screenshot: None,
    }
}

fn source(split: Split, held_out: bool) -> Option<Source> {
    Some(Source { template: "shop_order".into(), seed: 1, split, held_out })
}

#[tokio::test]
async fn only_verified_episodes_of_training_tasks_on_clean_hosts_can_be_trained_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let own = record(&store, "http://a.org/x", |_| ()).await;
    let failure = record(&store, "http://a.org/x", |e| (e.success, e.stop) = (Some(false), Some(Stop::StepLimit))).await;
    let trained = record(&store, "http://127.0.0.1:4000/", |e| e.task.source = source(Split::Train, false)).await;
    for refused in [
        record(&store, "http://a.org/x", |e| e.success = None).await,
        record(&store, "http://a.org/x", |e| e.ended_at = None).await,
        record(&store, "http://a.org/x", |e| (e.success, e.stop) = (Some(false), Some(Stop::Failed("browser".into())))).await,
        record(&store, "http://a.org/x", |e| e.stop = Some(Stop::Cancelled)).await,
        record(&store, "http://a.org/x", |e| e.task.source = source(Split::Validation, false)).await,
        record(&store, "http://a.org/x", |e| e.task.source = source(Split::Test, false)).await,
        record(&store, "http://a.org/x", |e| e.task.source = source(Split::Train, true)).await,
    ] {
        assert!(!store.trainable(&TrainingQuery::default()).await.unwrap().contains(&refused));
    }
    assert_eq!(store.trainable(&TrainingQuery::default()).await.unwrap(), [own.clone(), failure.clone(), trained.clone()]);
    let of = async |query: TrainingQuery| store.trainable(&query).await.unwrap();
    assert_eq!(of(TrainingQuery { from_suite: Some(true), ..Default::default() }).await, std::slice::from_ref(&trained));
    assert_eq!(of(TrainingQuery { from_suite: Some(false), ..Default::default() }).await, [own, failure]);
    assert!(of(TrainingQuery { generation: Some("other".into()), ..Default::default() }).await.is_empty());
    assert!(of(TrainingQuery { since: Some(chrono::Utc::now()), ..Default::default() }).await.is_empty());
    // A name that another begins or ends with is another host.
    for host in ["a.or", "b.a.org", ".org"] {
        store.quarantine(host, "a test").await.unwrap();
    }
    assert_eq!(of(TrainingQuery::default()).await.len(), 3);
    store.quarantine("a.org", "its pages carry instructions").await.unwrap();
    assert_eq!(of(TrainingQuery::default()).await, std::slice::from_ref(&trained));
    assert!(store.release("a.org").await.unwrap() && !store.release("a.org").await.unwrap());
    assert_eq!(of(TrainingQuery::default()).await.len(), 3);
    // An episode that came by is kept out as one that began there.
    store.step(&trained, &seen_on("http://c.org")).await.unwrap();
    store.quarantine("c.org", "its pages carry instructions").await.unwrap();
    assert!(!of(TrainingQuery::default()).await.contains(&trained));
    assert_eq!(store.quarantined().await.unwrap().last().unwrap().host, "c.org");
}
