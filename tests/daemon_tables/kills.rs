//! kill -9 under load, again and again: no task is lost, none is run twice unasked, no browser is left.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::figures::{count, record};
use super::harness::Daemon;
use super::site::Site;
use super::{processes, quantile_ms, start};

const WORKERS: usize = 4;
/// Tasks that wait beside those that run.
const WAITING: usize = 3;
/// Dead parents' browsers have so long to go.
const GONE: Duration = Duration::from_secs(60);

/// The load: tasks that were taken, each on a site of its own.
#[derive(Default)]
struct Load {
    era: Arc<AtomicUsize>,
    sites: HashMap<String, Site>,
    open: Vec<String>,
    made: u64,
}

impl Load {
    /// Fills the queue up; gives the tasks that are open.
    async fn fill(&mut self, daemon: &Daemon) {
        while self.open.len() < WORKERS + WAITING {
            let (id, seed) = (["shop_order_many", "records_edit"][self.made as usize % 2], 10_000 + self.made);
            let site = Site::open(id, seed, &self.era).await;
            let limits = json!({ "limits": { "max_steps": 12, "max_seconds": 120 } });
            let task = daemon.submit(site.goal(), site.url(), limits).await;
            self.open.push(task.clone());
            self.sites.insert(task, site);
            self.made += 1;
        }
    }

    /// Tasks whose site was changed in more than one era: something was done again.
    fn repeated(&self) -> usize {
        self.sites.values().filter(|site| site.eras().len() > 1).count()
    }
}

/// Waits until all workers are busy and one of them has gone so many steps.
async fn under_load(daemon: &Daemon, steps: usize) {
    let running = loop {
        let page = daemon.get("/v1/tasks?state=running").await;
        let running = page["tasks"].as_array().unwrap().clone();
        if running.len() >= WORKERS {
            break running;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut gone = 0;
    let task = running.iter().min_by_key(|task| task["started_at"].as_str().unwrap().to_owned()).unwrap();
    let enough = |event: &super::harness::Told| {
        gone += usize::from(event.kind == "step");
        gone >= steps
    };
    daemon.follow(task["id"].as_str().unwrap(), 0, enough).await;
}

/// Browsers of a dead daemon that are still there when they had their time.
async fn orphans(directory: &Path, before: &std::collections::BTreeSet<u32>) -> usize {
    let began = Instant::now();
    loop {
        let left = processes::browsers(directory).intersection(before).count();
        if left == 0 || began.elapsed() > GONE {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_loses_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        [("MILEPOST_SERVICE__WORKERS", "4"), ("MILEPOST_SERVICE__PER_CALLER_RUNNING", "4"), ("MILEPOST_SERVE__WARM_BROWSERS", "1")];
    let mut daemon = start(directory.path(), &settings);
    let (mut load, kills) = (Load::default(), count("DAEMON_KILLS", 1));
    let (mut ready, mut left, mut lost, mut interrupted, mut rerun) = (Vec::new(), 0, 0, 0, 0);
    for kill in 0..kills {
        load.fill(&daemon).await;
        under_load(&daemon, 1 + kill % 5).await;
        daemon.signal("-KILL");
        tokio::task::block_in_place(|| daemon.wait());
        let before = processes::browsers(directory.path());
        load.era.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        daemon = start(directory.path(), &settings);
        ready.push(began.elapsed());
        left += orphans(directory.path(), &before).await;
        let mut open = Vec::new();
        for id in std::mem::take(&mut load.open) {
            let response = daemon.send(Method::GET, &format!("/v1/tasks/{id}"), None).await;
            if response.status() != 200 {
                lost += 1;
                continue;
            }
            let task: Value = response.json().await.unwrap();
            match task["state"].as_str().unwrap() {
                "interrupted" => {
                    interrupted += 1;
                    daemon.expect(200, Method::POST, &format!("/v1/tasks/{id}/cancel"), None).await;
                }
                "done" | "failed" | "cancelled" => {}
                _ => {
                    rerun += usize::from(task["attempts"].as_u64().unwrap() > 1);
                    open.push(id);
                }
            }
        }
        load.open = open;
    }
    let mut ended = 0;
    for id in load.sites.keys() {
        let told = daemon.follow(id, 0, |_| false).await;
        let whole = told.iter().map(|event| event.id).eq(1..=told.len() as u64);
        ended += usize::from(whole && told.last().is_some_and(|event| event.kind == "ended"));
    }
    lost += load.sites.len() - ended;
    let changed = load.sites.values().filter(|site| site.changes() > 0).count();
    let figures = json!({
        "kills": kills, "workers": WORKERS, "tasks": load.sites.len(), "changed": changed,
        "lost": lost, "repeated": load.repeated(), "orphans": left,
        "interrupted": interrupted, "run_again_before_acting": rerun,
        "ready_ms": { "median": quantile_ms(&ready, 0.5), "max": quantile_ms(&ready, 1.0) },
    });
    record("kills", &figures);
    assert!(lost == 0 && load.repeated() == 0 && left == 0, "{figures}\n{}", daemon.log());
    assert!(changed > 0 && interrupted > 0, "the load does something: {figures}");
}
