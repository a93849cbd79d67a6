//! Requests made up from the API's own document: none breaks the daemon, and every answer is one that the document allows.

use std::process::Command;

use serde_json::{Value, json};

use super::figures::{count, record};
use super::site::Site;
use super::start;

#[tokio::test(flavor = "multi_thread")]
async fn the_api_keeps_to_its_document() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVICE__WORKERS", "1"), ("MILEPOST_SERVE__WARM_BROWSERS", "0"), ("MILEPOST_LIMITS__MAX_SECONDS", "5")];
    let daemon = start(directory.path(), &settings);
    let site = Site::open("shop_price", 10_001, &std::sync::Arc::default()).await;
    // Something to be found: a task that ended, with its episode.
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
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let figures: Value =
        std::fs::read(&report).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_else(|| panic!("{said}"));
    record("fuzz", &figures);
    assert!(figures["calls"].as_u64().unwrap() > 0 && figures["server_errors"] == 0, "{said}");
    assert!(output.status.success(), "{said}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
