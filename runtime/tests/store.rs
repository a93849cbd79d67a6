//! The store: which episodes may be trained on.
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

/// Makes a step on the page with this address.
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
    // A part of a host's name is not the same host.
    for host in ["a.or", "b.a.org", ".org"] {
        store.quarantine(host, "a test").await.unwrap();
    }
    assert_eq!(of(TrainingQuery::default()).await.len(), 3);
    store.quarantine("a.org", "its pages carry instructions").await.unwrap();
    assert_eq!(of(TrainingQuery::default()).await, std::slice::from_ref(&trained));
    assert!(store.release("a.org").await.unwrap() && !store.release("a.org").await.unwrap());
    assert_eq!(of(TrainingQuery::default()).await.len(), 3);
    // An episode that saw a page of the host is kept out, like one that started there.
    store.step(&trained, &seen_on("http://c.org")).await.unwrap();
    store.quarantine("c.org", "its pages carry instructions").await.unwrap();
    assert!(!of(TrainingQuery::default()).await.contains(&trained));
    assert_eq!(store.quarantined().await.unwrap().last().unwrap().host, "c.org");
}

/// Records an episode that starts on `a.org` with one step, whose action is `action`, and whose last observation, after that step, is of
/// `last`.
async fn passed(store: &SqliteStore, action: &str, last: &str) -> String {
    let page = Observation { url: last.into(), ..Observation::default() };
    let id = record(store, "http://a.org/x", |episode| episode.last_observation = Some(page)).await;
    let step = Step { action: Action::parse(action).unwrap(), ..seen_on("http://a.org/y") };
    store.step(&id, &step).await.unwrap();
    id
}

/// Checks whether a quarantine of `host` keeps an episode that took `action` and ended on `last` out of training.
async fn check_kept_out(host: &str, action: &str, last: &str, kept_out: bool) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let id = passed(&store, action, last).await;
    assert_eq!(store.trainable(&TrainingQuery::default()).await.unwrap(), std::slice::from_ref(&id));
    store.quarantine(host, "a test").await.unwrap();
    assert_eq!(store.trainable(&TrainingQuery::default()).await.unwrap().is_empty(), kept_out, "{host}: {action}, then {last}");
    assert!(store.release(host).await.unwrap());
    assert_eq!(store.trainable(&TrainingQuery::default()).await.unwrap(), [id]);
}

const HERE: &str = "http://a.org/z";

#[tokio::test]
async fn a_page_that_only_the_last_unread_call_saw_is_passed_through() {
    check_kept_out("c.org", "back", "http://c.org/x", true).await;
    check_kept_out("c.org", "back", "blob:https://c.org/1", true).await;
}

#[tokio::test]
async fn a_host_that_an_action_names_is_passed_through() {
    for action in [
        r#"call fetch {"url":"http://c.org/x"}"#,
        r#"call fetch {"url":"//c.org/x"}"#,
        r#"call desk.read {"pages":[{"text":"first (https://me@c.org:81), then"}]}"#,
        r#"goto "http://c.org""#,
        r#"goto "//c.org/x""#,
    ] {
        check_kept_out("c.org", action, HERE, true).await;
    }
}

#[tokio::test]
async fn a_host_is_one_host_in_every_spelling() {
    for url in ["http://c.org./", "http://C.Org/", "https://user:password@c.org/", "http://c.org:81/x", "http://c%2Eorg/"] {
        check_kept_out("c.org", "back", url, true).await;
    }
    for host in ["c.org.", "C.ORG", "https://c.org:81/x", "c.org:81"] {
        check_kept_out(host, "back", "http://c.org/", true).await;
    }
    check_kept_out("xn--bcher-kva.example", r#"goto "http://bücher.example/""#, HERE, true).await;
    check_kept_out("[::1]", "back", "http://[0:0::1]:80/", true).await;
}

#[tokio::test]
async fn a_host_that_was_not_passed_through_keeps_nothing_out() {
    for (action, last) in [
        ("back", "http://c.org.example/"),
        ("back", "http://c.organic/"),
        ("back", "http://b.c.org/"),
        ("back", "http://c.org@a.org/"),
        ("back", "http://a.org/?next=http://c.org/"),
        ("back", "about:blank"),
        (r#"type 1 "http://c.org/""#, HERE),
        (r#"call fetch {"url":"/c.org/","depth":2}"#, HERE),
        (r#"goto "c.org""#, HERE),
    ] {
        check_kept_out("c.org", action, last, false).await;
    }
}
