//! Requests that are generated from the OpenAPI document: none causes a server error, and the document allows every answer.

use std::process::Command;

use serde_json::{Value, json};

use super::measurements::{count, record};
use super::site::Site;
use super::start;

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_generated_requests_follow_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVICE__WORKERS", "1"), ("MILEPOST_SERVE__WARM_BROWSERS", "0"), ("MILEPOST_LIMITS__MAX_SECONDS", "5")];
    let daemon = start(directory.path(), &settings);
    let site = Site::open("shop_price", 10_001, &std::sync::Arc::default()).await;
    // A task that has ended with an episode, so that requests can refer to one.
    let task = daemon.submit(site.goal(), site.url(), json!({})).await;
    daemon.follow(&task, 0, |_| false).await;
    let report = directory.path().join("fuzz.json");
    let output = tokio::task::block_in_place(|| {
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/fuzz/run.sh"))
            .args([&daemon.address, &count("DAEMON_EXAMPLES", 2).to_string()])
            .arg(&report)
            .env("TOKEN", &daemon.token)
            .output()
            .unwrap()
    });
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let report: Option<Value> = std::fs::read(&report).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let report = report.unwrap_or_else(|| panic!("{printed}"));
    record("fuzz", &report);
    assert!(report["calls"].as_u64().unwrap() > 0 && report["server_errors"] == 0, "{printed}");
    assert!(output.status.success(), "{printed}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
