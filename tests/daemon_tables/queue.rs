//! Many tasks submitted at once: all end, the memory stays within a bound, and the daemon answers `/healthz` all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::measurements::{count, record};
use super::site::Site;
use super::{processes, quantile_ms, start};

const TEMPLATES: [&str; 4] = ["shop_price", "shop_add", "records_edit", "shop_total"];

/// Requests `/healthz` repeatedly until `over` is set, and returns the time of each answer.
async fn request_health(address: String, over: Arc<AtomicBool>) -> Vec<Duration> {
    let (client, mut times) = (reqwest::Client::new(), Vec::new());
    let mut interval = tokio::time::interval(Duration::from_millis(50));
    while !over.load(Ordering::SeqCst) {
        interval.tick().await;
        let began = Instant::now();
        let response = client.get(format!("{address}/healthz")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        times.push(began.elapsed());
    }
    times
}

/// Memory of the daemon in MiB.
#[derive(Clone, Copy, Default)]
struct Memory {
    /// The highest sum over the daemon and its browsers.
    all_peak: u64,
    /// The highest value of the daemon alone.
    daemon_peak: u64,
    /// The last value of the daemon alone.
    daemon_last: u64,
}

/// Measures the memory repeatedly until `over` is set.
async fn measure_memory(directory: std::path::PathBuf, over: Arc<AtomicBool>) -> Memory {
    let mut memory = Memory::default();
    while !over.load(Ordering::SeqCst) {
        let all = tokio::task::block_in_place(|| processes::list(&directory));
        let daemon = all.iter().filter(|process| !process.is_browser).map(|process| process.memory).sum::<u64>() / 1024;
        let sum = all.iter().map(|process| process.memory).sum::<u64>() / 1024;
        memory = Memory { all_peak: memory.all_peak.max(sum), daemon_peak: memory.daemon_peak.max(daemon), daemon_last: daemon };
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tasks_of_a_long_queue_end() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), &[]);
    let (tasks, over) = (count("DAEMON_TASKS", 6), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();
    let health = tokio::spawn(request_health(daemon.address.clone(), over.clone()));
    let memory = tokio::spawn(measure_memory(directory.path().into(), over.clone()));
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
    let (times, memory) = (health.await.unwrap(), memory.await.unwrap());
    let Memory { all_peak, daemon_peak, daemon_last } = memory;
    let measurements = json!({
        "tasks": tasks, "states": states, "seconds": seconds,
        "memory_mib": { "all_peak": all_peak, "daemon_peak": daemon_peak, "daemon_last": daemon_last },
        "healthz_ms": { "n": times.len(), "median": quantile_ms(&times, 0.5), "p99": quantile_ms(&times, 0.99), "max": quantile_ms(&times, 1.0) },
    });
    record("queue", &measurements);
    let ended: usize = ["done", "failed"].iter().filter_map(|state| states.get(*state)).sum();
    assert_eq!(ended, tasks, "{measurements}\n{}", daemon.log());
    assert!(all_peak < 8192, "{measurements}");
}
