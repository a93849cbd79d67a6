//! The daemon's files cannot grow for a while, as on a full disk: nothing is acknowledged that is not on the disk, neither then nor afterwards.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Daemon, command};

/// Sets the size beyond which no file of the daemon may grow: a number of bytes or `unlimited`.
fn limit_file_size(daemon: &Daemon, size: &str) {
    let arguments = [format!("--fsize={size}:"), "--pid".into(), daemon.process_id().to_string()];
    assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
}

/// Submits a task and returns the status, the header `Retry-After` and the task's id.
async fn submit(daemon: &Daemon, goal: &str) -> (u16, Option<String>, Option<String>) {
    let body = json!({ "goal": goal, "url": "http://127.0.0.1:9/", "limits": { "max_steps": 1 } });
    let response = daemon.send(Method::POST, "/v1/tasks", Some(body)).await;
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    (status, retry_after, response.json::<Value>().await.unwrap()["id"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_acknowledged_after_a_full_disk_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let inner = command(directory.path(), &Daemon::ARGUMENTS, &[("MILEPOST_SERVE__WARM_BROWSERS", "0")]);
        // The signal would end the process, where a full disk gives an error.
        let mut shell = Command::new("bash");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
        shell.current_dir(directory.path()).envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        tokio::task::block_in_place(|| Daemon::start_command(directory.path(), shell))
    };
    let mut daemon = start();
    limit_file_size(&daemon, "4096");
    for n in 0..6 {
        let (status, retry_after, id) = submit(&daemon, &format!("during {n}")).await;
        assert!(status == 507 || (status == 503 && retry_after.is_some()), "{status} {retry_after:?} {id:?}: {}", daemon.log());
    }
    daemon.expect(503, Method::GET, "/readyz", None).await;
    daemon.expect(200, Method::GET, "/healthz", None).await;
    limit_file_size(&daemon, "unlimited");
    while daemon.send(Method::GET, "/readyz", None).await.status() != 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut acknowledged = Vec::new();
    for n in 0..4 {
        let (status, _, id) = submit(&daemon, &format!("after {n}")).await;
        assert_eq!(status, 201, "{}", daemon.log());
        acknowledged.push(id.unwrap());
    }
    daemon.signal("-KILL");
    tokio::task::block_in_place(|| daemon.wait());
    let daemon = start();
    for id in acknowledged {
        daemon.get(&format!("/v1/tasks/{id}")).await;
    }
}
