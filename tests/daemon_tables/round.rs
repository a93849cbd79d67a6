//! An improvement round while four tasks run at a time: no task fails; how much longer the tasks take is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::Daemon;
use super::measurements::{count, record};
use super::site::Site;
use super::{quantile_ms, start};

const WORKERS: usize = 4;

/// Runs this number of tasks, four at a time. Returns the time that each took, and the number of those that failed or did not end.
async fn run_tasks(daemon: &Daemon, number: usize) -> (Vec<Duration>, usize) {
    let lanes = join_all((0..WORKERS).map(async |lane| {
        let mut ended = Vec::new();
        for task in (lane..number).step_by(WORKERS) {
            let site = Site::open("shop_price", 10_000 + task as u64, &Arc::default()).await;
            let began = Instant::now();
            let id = daemon.submit(site.goal(), site.url(), json!({ "limits": { "max_steps": 6 } })).await;
            daemon.follow(&id, 0, |_| false).await;
            let shown = daemon.get(&format!("/v1/tasks/{id}")).await;
            ended.push((began.elapsed(), shown["stop"] == "failed" || shown["ended_at"].is_null()));
        }
        ended
    }));
    let all: Vec<_> = lanes.await.into_iter().flatten().collect();
    (all.iter().map(|(took, _)| *took).collect(), all.iter().filter(|(_, failed)| *failed).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_fails_while_an_improvement_round_runs() {
    let directory = tempfile::tempdir().unwrap();
    let number = count("DAEMON_ROUND_TASKS", 4);
    // The round has as many training tasks, so that it takes about as long.
    let training = number.to_string();
    let settings = [
        ("MILEPOST_SERVICE__WORKERS", "4"),
        ("MILEPOST_SERVICE__PER_CALLER_RUNNING", "4"),
        // The round is never paused, which slows the tasks down most.
        ("MILEPOST_SERVE__IMPROVE__PAUSE_ABOVE", "1.0"),
        ("MILEPOST_IMPROVE__TASKS", &training),
        ("MILEPOST_IMPROVE__GROUP", "2"),
        ("MILEPOST_IMPROVE__LEVELS", "[easy]"),
    ];
    let daemon = start(directory.path(), &settings);
    run_tasks(&daemon, WORKERS).await;
    let (alone, failed_alone) = run_tasks(&daemon, number).await;
    daemon.expect(202, Method::POST, "/v1/improve", Some(json!({ "suite": "bundled", "recipe": "successes" }))).await;
    let (beside, failed) = run_tasks(&daemon, number).await;
    let status = daemon.get("/v1/improve").await;
    let medians = [&alone, &beside].map(|times| quantile_ms(times, 0.5));
    let measurements = json!({
        "tasks": number, "failed": failed + failed_alone, "round_outlasted_them": status["running"] != Value::Null,
        "alone_ms": medians[0], "beside_ms": medians[1], "ratio": (medians[1] / medians[0] * 1000.0).round() / 1000.0,
    });
    record("round", &measurements);
    assert_eq!(failed + failed_alone, 0, "{measurements}\n{}", daemon.log());
    assert!(status["running"] != Value::Null || status["last"]["done"] == true, "{status}");
}
