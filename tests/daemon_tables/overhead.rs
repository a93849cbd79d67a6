//! One task run by the daemon and by `milepost run` in turn: the actions are the same, and the times are measured.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Daemon, command};
use super::measurements::{count, record};
use super::site::Site;
use super::{quantile_ms, start};

/// The template and the seed of the task.
const TASK: (&str, u64) = ("shop_price", 10_001);

/// Returns the time from the start to the end of an episode, as it is recorded.
fn duration(episode: &Value) -> Duration {
    let at = |key: &str| episode[key].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    (at("ended_at") - at("started_at")).to_std().unwrap()
}

/// Waits until the daemon has started its spare browser, so that neither side runs while it starts.
async fn wait_for_spare_browser(daemon: &Daemon) {
    for _ in 0..3000 {
        let metrics = daemon.send(Method::GET, "/metrics", None).await.text().await.unwrap();
        if metrics.lines().any(|line| line == "milepost_browsers_ready 1") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no spare browser was ready within a minute");
}

/// Runs the task with the daemon. Returns the time from its submission to its end, and the episode.
async fn run_by_daemon(daemon: &Daemon) -> (Duration, Value) {
    let site = Site::open(TASK.0, TASK.1, &Arc::default()).await;
    wait_for_spare_browser(daemon).await;
    let began = Instant::now();
    let id = daemon.submit(site.goal(), site.url(), json!({})).await;
    daemon.follow(&id, 0, |_| false).await;
    (began.elapsed(), daemon.get(&format!("/v1/tasks/{id}/episode")).await)
}

/// Runs the task with `milepost run`. Returns the time that the command took, and the episode.
async fn run_by_command(daemon: &Daemon, directory: &Path) -> (Duration, Value) {
    let site = Site::open(TASK.0, TASK.1, &Arc::default()).await;
    wait_for_spare_browser(daemon).await;
    let began = Instant::now();
    let arguments = ["run", site.goal(), "--url", site.url(), "--json"];
    let output = tokio::task::block_in_place(|| command(directory, &arguments, &[]).output().unwrap());
    let took = began.elapsed();
    (took, serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_takes_the_same_actions_as_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let command_directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let pairs = count("DAEMON_PAIRS", 1);
    let (mut whole, mut episodes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..pairs {
        let sides = [run_by_daemon(&daemon).await, run_by_command(&daemon, command_directory.path()).await];
        let actions =
            sides.each_ref().map(|(_, episode)| episode["steps"].as_array().unwrap().iter().map(|step| step["action"].clone()).collect());
        let [by_daemon, by_command]: [Vec<Value>; 2] = actions;
        assert_eq!(by_daemon, by_command, "the model, the seed and the site are the same");
        for (side, (took, episode)) in sides.iter().enumerate() {
            whole[side].push(*took);
            episodes[side].push(duration(episode));
        }
    }
    let medians = |sides: &[Vec<Duration>; 2]| {
        let [daemon, run] = sides.each_ref().map(|times| quantile_ms(times, 0.5));
        json!({ "daemon_ms": daemon, "run_ms": run, "ratio": (daemon / run * 1000.0).round() / 1000.0 })
    };
    record("overhead", &json!({ "pairs": pairs, "whole": medians(&whole), "episode": medians(&episodes) }));
}
