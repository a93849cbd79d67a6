//! The same task by the daemon and by `milepost run`, in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::figures::{count, record};
use super::harness::{Daemon, command};
use super::site::Site;
use super::{quantile_ms, start};

const TASK: (&str, u64) = ("shop_price", 10_001);

/// How long an episode took by its own clock.
fn lasted(episode: &Value) -> Duration {
    let at = |key: &str| episode[key].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    (at("ended_at") - at("started_at")).to_std().unwrap()
}

/// Waits until the daemon has a browser ready and rests, so that neither side works beside its start.
async fn rested(daemon: &Daemon) {
    for _ in 0..3000 {
        let metrics = daemon.send(Method::GET, "/metrics", None).await.text().await.unwrap();
        if metrics.lines().any(|line| line == "milepost_browsers_ready 1") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no spare browser was ready within a minute");
}

async fn by_daemon(daemon: &Daemon) -> (Duration, Value) {
    let site = Site::open(TASK.0, TASK.1, &Arc::default()).await;
    rested(daemon).await;
    let began = Instant::now();
    let id = daemon.submit(site.goal(), site.url(), json!({})).await;
    daemon.follow(&id, 0, |_| false).await;
    (began.elapsed(), daemon.get(&format!("/v1/tasks/{id}/episode")).await)
}

async fn by_command(daemon: &Daemon, directory: &Path) -> (Duration, Value) {
    let site = Site::open(TASK.0, TASK.1, &Arc::default()).await;
    rested(daemon).await;
    let began = Instant::now();
    let arguments = ["run", site.goal(), "--url", site.url(), "--json"];
    let output = tokio::task::block_in_place(|| command(directory, &arguments, &[]).output().unwrap());
    let took = began.elapsed();
    (took, serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_does_the_same_as_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let alone = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let pairs = count("DAEMON_PAIRS", 1);
    let (mut whole, mut episodes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..pairs {
        let sides = [by_daemon(&daemon).await, by_command(&daemon, alone.path()).await];
        let actions =
            sides.each_ref().map(|(_, episode)| episode["steps"].as_array().unwrap().iter().map(|step| step["action"].clone()).collect());
        let [ours, theirs]: [Vec<Value>; 2] = actions;
        assert_eq!(ours, theirs, "the same model, seed and page lead to the same actions");
        for (side, (took, episode)) in sides.iter().enumerate() {
            whole[side].push(*took);
            episodes[side].push(lasted(episode));
        }
    }
    let medians = |sides: &[Vec<Duration>; 2]| {
        let [daemon, run] = sides.each_ref().map(|times| quantile_ms(times, 0.5));
        json!({ "daemon_ms": daemon, "run_ms": run, "ratio": (daemon / run * 1000.0).round() / 1000.0 })
    };
    record("overhead", &json!({ "pairs": pairs, "whole": medians(&whole), "episode": medians(&episodes) }));
}
