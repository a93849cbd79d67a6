//! Tests of canaries in the running daemon: a generation that the loop promoted gets a share of the tasks first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use milepost::config::Config;
use milepost::{model, wiring};
use milepost_learners::adapter::LoraConfig;
use milepost_runtime::AdapterRegistry;
use milepost_runtime::registry::{Figure, Incumbent, Occasion, Record, Status};
use reqwest::Method;
use serde_json::{Value, json};

use super::generations::{scaled, settings};
use harness::Daemon;
use site::Site;

#[path = "../daemon/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of the daemon, which use the rest")]
mod harness;
#[path = "../daemon_tables/site.rs"]
#[allow(dead_code, reason = "shared with the tables of the daemon, which use the rest")]
mod site;

const SETTINGS: [(&str, &str); 3] =
    [("MILEPOST_SERVE__CANARY__SHARE", "0.999"), ("MILEPOST_SERVE__CANARY__TASKS", "3"), ("MILEPOST_SERVE__LIVE__CHECK_EVERY", "1")];

/// Registers a generation whose gate figure is 100 of 100 solved tasks. The larger `alpha`, the further its policy is from the seed model.
async fn generation(config: &Config, directory: &Path, alpha: f32, seed: u64) -> Record {
    let base = model::load(config).await.unwrap().engine.generation();
    let registry = wiring::registry(config);
    let lora = LoraConfig { rank: 4, alpha, ..LoraConfig::default() };
    let record = registry.register(&scaled(directory, &base, lora, seed), &base).await.unwrap();
    registry.measured(&record.id, Figure::new(Occasion::Gate, [100, 100], "of this test")).await.unwrap()
}

/// Runs a task to its end, gives it the feedback `success`, and returns its record.
async fn task(daemon: &Daemon, seed: u64, success: bool) -> Value {
    let site = Site::open("shop_price", seed, &Arc::default()).await;
    let id = daemon.submit(site.goal(), site.url(), json!({ "limits": { "max_steps": 6 } })).await;
    daemon.follow(&id, 0, |_| false).await;
    daemon.expect(200, Method::POST, &format!("/v1/tasks/{id}/feedback"), Some(json!({ "success": success }))).await;
    daemon.get(&format!("/v1/tasks/{id}")).await
}

async fn wait(daemon: &Daemon, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1800 {
        let adapters = daemon.get("/v1/adapters").await;
        if holds(&adapters) {
            return adapters;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: {}\n{}", daemon.get("/v1/adapters").await, daemon.log());
}

async fn played_by(daemon: &Daemon, task: &Value) -> String {
    let episode = daemon.get(&format!("/v1/tasks/{}/episode", task["id"].as_str().unwrap())).await;
    episode["generation"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_holds_serves_all_and_one_that_fails_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path());
    let good = generation(&config, directory.path(), 1e-3, 1).await;
    let broken = generation(&config, directory.path(), 500.0, 2).await;
    let registry = wiring::registry(&config);
    let mut daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &SETTINGS));
    let base = daemon.get("/v1/adapters").await["generation"].as_str().unwrap().to_owned();

    registry.promote(&good.id, Incumbent::Base, "as the loop does").await.unwrap();
    let trial = wait(&daemon, "it is tried", |adapters| adapters["canary"]["generation"] == good.id.as_str()).await;
    assert_eq!(
        (trial["generation"].as_str(), trial["canary"]["live"].clone()),
        (Some(base.as_str()), json!([0, 0])),
        "the base serves the rest"
    );
    let first = task(&daemon, 10_000, true).await;
    assert_eq!(played_by(&daemon, &first).await, good.id, "{first}");

    // After a restart the trial continues, and the generation that served before serves again.
    daemon.signal("-TERM");
    tokio::task::block_in_place(|| daemon.wait());
    daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &SETTINGS));
    let trial = wait(&daemon, "the trial goes on", |adapters| !adapters["canary"].is_null()).await;
    assert_eq!((trial["generation"].as_str(), trial["canary"]["live"].clone()), (Some(base.as_str()), json!([1, 1])));
    for seed in 10_001..10_003 {
        task(&daemon, seed, true).await;
    }
    wait(&daemon, "it serves all", |adapters| adapters["canary"].is_null() && adapters["generation"] == good.id.as_str()).await;

    registry.promote(&broken.id, Incumbent::Generation(&good.id), "as the loop does").await.unwrap();
    wait(&daemon, "the broken one is tried", |adapters| adapters["canary"]["generation"] == broken.id.as_str()).await;
    for seed in 10_010..10_016 {
        task(&daemon, seed, false).await;
        if daemon.get("/v1/adapters").await["canary"].is_null() {
            break;
        }
    }
    let after = wait(&daemon, "it is taken back", |adapters| adapters["canary"].is_null()).await;
    assert_eq!(after["generation"], good.id.as_str(), "what served went on");
    let record = registry.get(&broken.id).await.unwrap().unwrap();
    assert!(record.status == Status::RolledBack && record.figure(Occasion::Canary).is_some(), "{record:?}");
    assert_eq!(played_by(&daemon, &task(&daemon, 10_020, true).await).await, good.id);
}

/// Shuts the daemon down with SIGTERM.
fn end(mut daemon: Daemon) {
    daemon.signal("-TERM");
    tokio::task::block_in_place(|| daemon.wait());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_promoted_while_no_daemon_ran_is_tried_too() {
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path());
    let first = generation(&config, directory.path(), 1e-3, 1).await;
    let second = generation(&config, directory.path(), 1e-3, 2).await;
    let registry = wiring::registry(&config);
    let start = || tokio::task::block_in_place(|| Daemon::start(directory.path(), &SETTINGS));
    let serving = async |daemon: &Daemon| daemon.get("/v1/adapters").await["generation"].as_str().unwrap().to_owned();

    registry.promote(&first.id, Incumbent::Base, "as the loop does").await.unwrap();
    let daemon = start();
    let base = first.generation.parent.clone().unwrap();
    assert_eq!(serving(&daemon).await, base, "it does not serve before it was tried");
    let trial = wait(&daemon, "it is tried", |adapters| adapters["canary"]["generation"] == first.id.as_str()).await;
    assert_eq!((trial["canary"]["until"].clone(), trial["canary"]["fails_at"].clone()), (json!(3), json!(1)));
    end(daemon);

    registry.promote(&first.id, Incumbent::Any, "by hand").await.unwrap();
    let daemon = start();
    assert_eq!(serving(&daemon).await, first.id, "a person's choice serves at once");
    end(daemon);

    registry.promote(&second.id, Incumbent::Generation(&first.id), "as the loop does").await.unwrap();
    std::fs::remove_file(registry.directory(&first.id).join("adapter_model.safetensors")).unwrap();
    let daemon = start();
    assert_eq!(serving(&daemon).await, second.id, "what served before is not there any more\n{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_service_bring_back_what_served_before() {
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path());
    let first = generation(&config, directory.path(), 1e-3, 1).await;
    let second = generation(&config, directory.path(), 1e-3, 2).await;
    let registry = wiring::registry(&config);
    registry.promote(&first.id, Incumbent::Base, "as the loop does").await.unwrap();
    registry.promote(&second.id, Incumbent::Generation(&first.id), "as the loop does").await.unwrap();
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[("MILEPOST_SERVE__LIVE__CHECK_EVERY", "1")]));
    for seed in 10_030..10_032 {
        let failed = task(&daemon, seed, false).await;
        assert_eq!(played_by(&daemon, &failed).await, second.id, "{failed}");
    }
    // The daemon counts feedback before it answers the request; the second failure broke the bound.
    assert_eq!(daemon.get("/v1/adapters").await["generation"], first.id.as_str(), "{}", daemon.log());
    let gone = registry.get(&second.id).await.unwrap().unwrap();
    assert_eq!((gone.status, gone.figure(Occasion::Live).map(|figure| figure.candidate)), (Status::RolledBack, Some([0, 2])));
    assert_eq!(played_by(&daemon, &task(&daemon, 10_032, true).await).await, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_promotes_and_rolls_back_under_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path());
    let generations = [generation(&config, directory.path(), 1e-3, 1).await.id, generation(&config, directory.path(), 1e-3, 2).await.id];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &SETTINGS));
    let base = daemon.get("/v1/adapters").await["generation"].as_str().unwrap().to_owned();
    let traffic = futures_util::future::join_all((10_000..10_006).map(|seed| task(&daemon, seed, true)));
    let changes = async {
        let mut serving = Vec::new();
        for (id, what) in [(0, "promote"), (1, "promote"), (1, "rollback"), (0, "rollback")] {
            // The changes are spread over the time that the tasks take, so that some tasks run during each change.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let path = format!("/v1/adapters/{}/{what}", generations[id]);
            daemon.expect(200, Method::POST, &path, Some(json!({ "reason": "a test" }))).await;
            serving.push(daemon.get("/v1/adapters").await["generation"].as_str().unwrap().to_owned());
        }
        serving
    };
    let (tasks, serving) = tokio::join!(traffic, changes);
    assert_eq!(
        serving.iter().map(String::as_str).collect::<Vec<_>>(),
        [&*generations[0], &generations[1], &generations[0], &base],
        "no canary: a person decided"
    );
    let page = daemon.send(Method::GET, "/adapters", None).await.text().await.unwrap();
    assert!(generations.iter().all(|id| page.contains(&**id)) && page.contains("100 of 100") && page.contains("<svg"), "{page}");
    assert!(tasks.iter().all(|task| !task["ended_at"].is_null() && task["stop"] != "failed"), "{tasks:?}\n{}", daemon.log());
}
