//! Many followers of one task while it runs: each gets every event once and in order, also after it was cut off.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use super::figures::{count, record};
use super::site::Site;
use super::start;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let followers = count("DAEMON_CROWD", 50);
    let site = Site::open("shop_order_many", 10_000, &Arc::default()).await;
    let task = daemon.submit(site.goal(), site.url(), json!({ "limits": { "max_steps": 20 } })).await;
    let began = Instant::now();
    let told = join_all((0..followers).map(async |follower| {
        // Half are cut off once, after more or fewer events; the others stay.
        let cut = if follower % 2 == 0 { 1 + follower as u64 % 17 } else { u64::MAX };
        let mut told = daemon.follow(&task, 0, |event| event.id >= cut).await;
        let last = told.last().map_or(0, |event| event.id);
        told.extend(daemon.follow(&task, last, |_| false).await);
        told
    }))
    .await;
    let seconds = began.elapsed().as_secs_f64();
    let whole = daemon.follow(&task, 0, |_| false).await;
    assert!(whole.len() > 17 && whole.iter().map(|event| event.id).eq(1..=whole.len() as u64), "{whole:?}");
    assert_eq!(whole.last().unwrap().kind, "ended");
    let wrong = told.iter().filter(|told| **told != whole).count();
    record("crowd", &json!({ "followers": followers, "events": whole.len(), "wrong": wrong, "seconds": seconds.round() }));
    assert_eq!(wrong, 0, "{}", daemon.log());
}
