//! The daemon is killed while a task runs, or shut down: no task is lost or repeated without a person's decision, and no browser is left.

use milepost_suites::template;
use reqwest::Method;
use serde_json::json;

use super::harness::{Daemon, browsers};

/// How many times the daemon is killed. `tests/daemon_tables/kills.rs` does it more often, with more workers.
const KILLS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_loses_no_task_and_repeats_none_without_a_decision() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVICE__DRAIN_SECONDS", "1"), ("MILEPOST_SERVICE__WORKERS", "1"), ("MILEPOST_SERVE__WARM_BROWSERS", "1")];
    let start = || tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    let instance = template("shop_order_many").unwrap().instantiate(10_000);
    let site = instance.serve().await.unwrap();
    let url = site.url.join(instance.start_path()).unwrap().to_string();
    let mut daemon = start();
    let mut ids = Vec::new();
    for _ in 0..KILLS {
        let running = daemon.submit(instance.goal(), &url, json!({})).await;
        let waiting = daemon.submit(instance.goal(), &url, json!({ "limits": { "max_steps": 1 } })).await;
        let events = daemon.follow(&running, 0, |event| event.kind == "step").await;
        assert_eq!(events.last().unwrap().kind, "step");
        daemon.signal("-KILL");
        tokio::task::block_in_place(|| daemon.wait());
        daemon = start();
        let task = daemon.get(&format!("/v1/tasks/{running}")).await;
        assert!(task["state"] == "interrupted" && task["attempts"] == 1 && task["acted"] == true, "{task}");
        let end = daemon.follow(&waiting, 0, |_| false).await;
        assert_eq!(end.last().unwrap().kind, "ended", "the task that waited has not been run: {end:?}");
        let kept = daemon.follow(&running, 0, |event| event.kind == "interrupted").await;
        assert!(kept.starts_with(&events) && kept.iter().map(|event| event.id).eq(1..=kept.len() as u64), "events were lost: {kept:?}");
        ids.push(running);
    }
    // A person resumes the task, and a shutdown interrupts it again.
    let resumed = daemon.expect(200, Method::POST, &format!("/v1/tasks/{}/resume", ids[0]), None).await;
    daemon.follow(&ids[0], resumed["last_seq"].as_u64().unwrap(), |event| event.kind == "step").await;
    daemon.signal("-TERM");
    let status = tokio::task::block_in_place(|| daemon.wait());
    assert!(status.success(), "{status}: {}", daemon.log());
    assert_eq!(browsers(directory.path()), 0);
    let daemon = start();
    let task = daemon.get(&format!("/v1/tasks/{}", ids[0])).await;
    assert!(task["state"] == "interrupted" && task["attempts"] == 2, "{task}");
    let cancelled = daemon.expect(200, Method::POST, &format!("/v1/tasks/{}/cancel", ids[0]), None).await;
    assert_eq!(cancelled["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_the_daemon_speaks_tls_only() {
    let directory = tempfile::tempdir().unwrap();
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    let certificate = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem"])
        .args(subject)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(certificate.status.success(), "{}", String::from_utf8_lossy(&certificate.stderr));
    let settings = [("MILEPOST_SERVE__TLS", "{cert=cert.pem, key=key.pem}"), ("MILEPOST_SERVE__WARM_BROWSERS", "0")];
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &settings));
    assert!(daemon.address.starts_with("https://"));
    assert_eq!(daemon.get("/v1/tasks").await["tasks"], json!([]));
    let signed = daemon.send(Method::POST, "/session", Some(json!({ "token": daemon.token }))).await;
    assert!(signed.headers()["set-cookie"].to_str().unwrap().contains("Secure"));
    let plain = reqwest::get(daemon.address.replacen("https", "http", 1)).await;
    assert!(plain.is_err(), "it answers without TLS");
}
