//! Many tasks handed in at once: all end, memory stays bounded, and the daemon still says that it is well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::figures::{count, record};
use super::site::Site;
use super::{processes, quantile_ms, start};

const TEMPLATES: [&str; 4] = ["shop_price", "shop_add", "records_edit", "shop_total"];

/// Asks whether it is well until told to end; gives the time of each answer.
async fn ask(address: String, over: Arc<AtomicBool>) -> Vec<Duration> {
    let (client, mut times) = (reqwest::Client::new(), Vec::new());
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    while !over.load(Ordering::SeqCst) {
        beat.tick().await;
        let began = Instant::now();
        let response = client.get(format!("{address}/healthz")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        times.push(began.elapsed());
    }
    times
}

/// Looks at the memory until told to end; gives the highest sum of all processes, the highest of the daemon, and its last, in MiB.
async fn weigh(directory: std::path::PathBuf, over: Arc<AtomicBool>) -> [u64; 3] {
    let mut most = [0; 3];
    while !over.load(Ordering::SeqCst) {
        let all = tokio::task::block_in_place(|| processes::of(&directory));
        let own = all.iter().filter(|process| !process.browser).map(|process| process.memory).sum::<u64>() / 1024;
        let sum = all.iter().map(|process| process.memory).sum::<u64>() / 1024;
        most = [most[0].max(sum), most[1].max(own), own];
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_full_queue_end() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let (tasks, over) = (count("DAEMON_TASKS", 6), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();
    let (health, memory) =
        (tokio::spawn(ask(daemon.address.clone(), over.clone())), tokio::spawn(weigh(directory.path().into(), over.clone())));
    let (mut sites, mut ids) = (Vec::new(), Vec::new());
    for task in 0..tasks {
        let site = Site::open(TEMPLATES[task % TEMPLATES.len()], 10_000 + task as u64, &Arc::default()).await;
        ids.push(daemon.submit(site.goal(), site.url(), json!({ "limits": { "max_steps": 6, "max_seconds": 60 } })).await);
        sites.push(site);
    }
    let mut states = BTreeMap::<String, usize>::new();
    for id in &ids {
        daemon.follow(id, 0, |_| false).await;
        let task = daemon.get(&format!("/v1/tasks/{id}")).await;
        *states.entry(task["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let seconds = began.elapsed().as_secs();
    over.store(true, Ordering::SeqCst);
    let (times, [most, own, last]) = (health.await.unwrap(), memory.await.unwrap());
    let figures = json!({
        "tasks": tasks, "states": states, "seconds": seconds,
        "memory_mib": { "all_peak": most, "daemon_peak": own, "daemon_last": last },
        "healthz_ms": { "n": times.len(), "median": quantile_ms(&times, 0.5), "p99": quantile_ms(&times, 0.99), "max": quantile_ms(&times, 1.0) },
    });
    record("queue", &figures);
    let ended: usize = ["done", "failed"].iter().filter_map(|state| states.get(*state)).sum();
    assert_eq!(ended, tasks, "{figures}\n{}", daemon.log());
    assert!(most < 8192, "{figures}");
}
