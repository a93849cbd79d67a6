//! Many followers of a task that runs: each gets every event once and in order, also after it was disconnected.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use super::measurements::{count, record};
use super::site::Site;
use super::start;

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_followers_gets_every_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let followers = count("DAEMON_CROWD", 50);
    let site = Site::open("shop_order_many", 10_000, &Arc::default()).await;
    let task = daemon.submit(site.goal(), site.url(), json!({ "limits": { "max_steps": 20 } })).await;
    let began = Instant::now();
    let received = join_all((0..followers).map(async |follower| {
        // Every other follower reconnects once, after 1 to 17 events.
        let cut = if follower % 2 == 0 { 1 + follower as u64 % 17 } else { u64::MAX };
        let mut events = daemon.follow(&task, 0, |event| event.id >= cut).await;
        let last = events.last().map_or(0, |event| event.id);
        events.extend(daemon.follow(&task, last, |_| false).await);
        events
    }))
    .await;
    let seconds = began.elapsed().as_secs_f64();
    let all = daemon.follow(&task, 0, |_| false).await;
    assert!(all.len() > 17 && all.iter().map(|event| event.id).eq(1..=all.len() as u64), "{all:?}");
    assert_eq!(all.last().unwrap().kind, "ended");
    let wrong = received.iter().filter(|events| **events != all).count();
    record("crowd", &json!({ "followers": followers, "events": all.len(), "wrong": wrong, "seconds": seconds.round() }));
    assert_eq!(wrong, 0, "{}", daemon.log());
}
