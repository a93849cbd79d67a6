//! The daemon is killed repeatedly under load: no task is lost or repeated without a decision, and no browser is left.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Daemon, ReceivedEvent};
use super::measurements::{count, record};
use super::site::Site;
use super::{processes, quantile_ms, start};

const WORKERS: usize = 4;
/// The number of tasks that wait in the queue beside those that run.
const WAITING: usize = 3;
/// The maximum time in which the browsers of a killed daemon must end.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(60);

/// The submitted tasks, each on a site of its own.
#[derive(Default)]
struct Load {
    /// How many times the daemon was killed so far.
    kills: Arc<AtomicUsize>,
    /// The sites of all tasks, by the id of the task.
    sites: HashMap<String, Site>,
    /// The tasks that have not ended.
    open: Vec<String>,
}

/// The outcomes of the open tasks after kills.
#[derive(Default)]
struct Outcomes {
    lost: usize,
    interrupted: usize,
    /// Tasks that had not acted and were run again.
    run_again: usize,
}

impl Load {
    /// Submits tasks until the workers and the queue are full.
    async fn fill(&mut self, daemon: &Daemon) {
        while self.open.len() < WORKERS + WAITING {
            let number = self.sites.len();
            let (id, seed) = (["shop_order_many", "records_edit"][number % 2], 10_000 + number as u64);
            let site = Site::open(id, seed, &self.kills).await;
            let limits = json!({ "limits": { "max_steps": 12, "max_seconds": 120 } });
            let task = daemon.submit(site.goal(), site.url(), limits).await;
            self.open.push(task.clone());
            self.sites.insert(task, site);
        }
    }

    /// Counts the outcomes of the open tasks after a kill, cancels the interrupted tasks, and keeps the tasks that are still open.
    async fn settle(&mut self, daemon: &Daemon, outcomes: &mut Outcomes) {
        for id in std::mem::take(&mut self.open) {
            let response = daemon.send(Method::GET, &format!("/v1/tasks/{id}"), None).await;
            if response.status() != 200 {
                outcomes.lost += 1;
                continue;
            }
            let task: Value = response.json().await.unwrap();
            match task["state"].as_str().unwrap() {
                "interrupted" => {
                    outcomes.interrupted += 1;
                    daemon.expect(200, Method::POST, &format!("/v1/tasks/{id}/cancel"), None).await;
                }
                "done" | "failed" | "cancelled" => {}
                _ => {
                    outcomes.run_again += usize::from(task["attempts"].as_u64().unwrap() > 1);
                    self.open.push(id);
                }
            }
        }
    }

    /// Follows all tasks to their ends, and counts those whose events are complete.
    async fn count_complete(&self, daemon: &Daemon) -> usize {
        let mut complete = 0;
        for id in self.sites.keys() {
            let events = daemon.follow(id, 0, |_| false).await;
            let has_all = events.iter().map(|event| event.id).eq(1..=events.len() as u64);
            complete += usize::from(has_all && events.last().is_some_and(|event| event.kind == "ended"));
        }
        complete
    }

    /// Counts the tasks whose sites were changed both before and after a kill: they were repeated.
    fn repeated(&self) -> usize {
        self.sites.values().filter(|site| site.periods_with_changes().len() > 1).count()
    }
}

/// Waits until all workers are busy and the task that started first has made this number of steps.
async fn wait_for_load(daemon: &Daemon, steps: usize) {
    let running = loop {
        let page = daemon.get("/v1/tasks?state=running").await;
        let running = page["tasks"].as_array().unwrap().clone();
        if running.len() >= WORKERS {
            break running;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut made = 0;
    let task = running.iter().min_by_key(|task| task["started_at"].as_str().unwrap().to_owned()).unwrap();
    let is_last = |event: &ReceivedEvent| {
        made += usize::from(event.kind == "step");
        made >= steps
    };
    daemon.follow(task["id"].as_str().unwrap(), 0, is_last).await;
}

/// Waits for the browsers of a killed daemon to end, and returns the number of those that have not.
async fn count_orphans(directory: &Path, before: &std::collections::BTreeSet<u32>) -> usize {
    let began = Instant::now();
    loop {
        let left = processes::browsers(directory).intersection(before).count();
        if left == 0 || began.elapsed() > BROWSER_TIMEOUT {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_under_load_loses_and_repeats_no_task() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        [("MILEPOST_SERVICE__WORKERS", "4"), ("MILEPOST_SERVICE__PER_CALLER_RUNNING", "4"), ("MILEPOST_SERVE__WARM_BROWSERS", "1")];
    let mut daemon = start(directory.path(), &settings);
    let (mut load, mut outcomes, kills) = (Load::default(), Outcomes::default(), count("DAEMON_KILLS", 1));
    let (mut ready, mut orphans) = (Vec::new(), 0);
    for kill in 0..kills {
        load.fill(&daemon).await;
        wait_for_load(&daemon, 1 + kill % 5).await;
        daemon.signal("-KILL");
        tokio::task::block_in_place(|| daemon.wait());
        let before = processes::browsers(directory.path());
        load.kills.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        daemon = start(directory.path(), &settings);
        ready.push(began.elapsed());
        orphans += count_orphans(directory.path(), &before).await;
        load.settle(&daemon, &mut outcomes).await;
    }
    let lost = outcomes.lost + load.sites.len() - load.count_complete(&daemon).await;
    let changed = load.sites.values().filter(|site| site.changes() > 0).count();
    let measurements = json!({
        "kills": kills, "workers": WORKERS, "tasks": load.sites.len(), "changed": changed,
        "lost": lost, "repeated": load.repeated(), "orphans": orphans,
        "interrupted": outcomes.interrupted, "run_again_before_acting": outcomes.run_again,
        "ready_ms": { "median": quantile_ms(&ready, 0.5), "max": quantile_ms(&ready, 1.0) },
    });
    record("kills", &measurements);
    assert!(lost == 0 && load.repeated() == 0 && orphans == 0, "{measurements}\n{}", daemon.log());
    assert!(changed > 0 && outcomes.interrupted > 0, "no task has changed its site, or none was interrupted: {measurements}");
}
