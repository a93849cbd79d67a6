//! The errors of a daemon that cannot start: each says why, and how to fix it.

use std::net::TcpListener;

use super::harness::command;

/// Starts the daemon with this content of its token file, and checks its exit code and that the error contains these texts.
fn check_refusal(token: Option<&str>, arguments: &[&str], settings: &[(&str, &str)], code: i32, expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    if let Some(token) = token {
        std::fs::write(directory.path().join("token"), token).unwrap();
    }
    let output = command(directory.path(), &[&["serve", "--token-file", "token"], arguments].concat(), settings).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?} {settings:?}: {stderr}");
    assert!(expected.iter().all(|part| stderr.contains(part)), "{arguments:?} {settings:?}: {stderr}");
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    check_refusal(None, &["--port", &port], &[], 5, &[&port, "in use", "--port"]);
    check_refusal(None, &["--port", "0", "--listen", "0.0.0.0"], &[], 2, &["serve.allow_remote"]);
    check_refusal(Some("short"), &["--port", "0"], &[], 2, &["holds no token", "remove the file"]);
    check_refusal(None, &["--port", "0"], &[("MILEPOST_LOCAL__MODEL", "/nowhere/model")], 2, &["/nowhere/model", "local.model"]);
    check_refusal(
        None,
        &["--port", "0"],
        &[("MILEPOST_SERVE__TLS", "{cert=/nowhere/a.pem, key=/nowhere/b.pem}")],
        2,
        &["serve.tls", "/nowhere/a.pem"],
    );
    check_refusal(None, &["--port", "0"], &[("MILEPOST_SERVE__IMPROVE__SCHEDULE", "at three")], 2, &["serve.improve.schedule", "cron"]);
    check_refusal(None, &["--port", "0"], &[("MILEPOST_SERVE__PROT", "1")], 2, &["serve.prot", "did you mean `port`?"]);
}
