//! An improvement run of the daemon beside its tasks.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::harness::Daemon;
use super::visited_site::{site, visit};

#[tokio::test(flavor = "multi_thread")]
async fn an_improvement_run_is_paused_while_the_workers_are_busy() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("MILEPOST_SERVICE__WORKERS", "1"),
        ("MILEPOST_IMPROVE__LEVELS", "[easy]"),
        ("MILEPOST_IMPROVE__TASKS", "200"),
        ("MILEPOST_IMPROVE__GROUP", "2"),
    ];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let (url, _) = site().await;
    daemon.expect(202, Method::POST, "/v1/improve", Some(json!({ "suite": "bundled", "recipe": "successes" }))).await;
    let wait_for_paused = async |expected: bool| {
        for _ in 0..2400 {
            let status = daemon.get("/v1/improve").await;
            assert!(!status["running"].is_null(), "the run has ended: {status}");
            if status["running"]["paused"] == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("paused should become {expected}: {}", daemon.log());
    };
    wait_for_paused(false).await;
    let tasks = async {
        loop {
            futures_util::future::join_all((0..3).map(|_| visit(&daemon, &url, json!({})))).await;
        }
    };
    tokio::select! {
        () = wait_for_paused(true) => {}
        () = tasks => {}
    }
    wait_for_paused(false).await;
}
