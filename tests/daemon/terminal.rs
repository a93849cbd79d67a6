//! `milepost client` against the daemon: handing in, following, deciding, and what it says when something is wrong.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Output, Stdio};

use milepost_suites::{Served, template};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{Daemon, command};

/// A task that calls a tool which it may not call: that needs a person.
pub struct Asking {
    pub goal: String,
    pub url: String,
    pub more: Value,
    _site: Served,
}

impl Asking {
    /// Serves the site of a task that the seed model solves, once it may.
    pub async fn serve() -> Self {
        let instance = template("records_badge").unwrap().instantiate(10_042);
        let site = instance.serve().await.unwrap();
        let url = instance.task(&site.url).unwrap().start_url.to_string();
        Self { goal: instance.goal().into(), url, more: json!({ "capability": { "tools": [] } }), _site: site }
    }
}

/// Runs `milepost client` with these words on its stdin.
fn client(daemon: &Daemon, server: &str, arguments: &[&str], typed: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVER", server), ("MILEPOST_TOKEN", daemon.token.as_str())];
    let mut command = command(directory.path(), &[&["client"], arguments].concat(), &settings);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs it; it must end with this code and say these things. Gives its stdout.
fn check(daemon: &Daemon, arguments: &[&str], typed: &str, code: i32, says: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| client(daemon, &daemon.address, arguments, typed));
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stdout}{stderr}{}", daemon.log());
    assert!(says.iter().all(|part| stdout.contains(part) || stderr.contains(part)), "{arguments:?} should say {says:?}: {stdout}{stderr}");
    stdout
}

/// A way to the daemon on which every connection breaks after so many bytes.
async fn brittle(address: &str, bytes: usize) -> String {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), address.trim_start_matches("http://").to_owned());
    let here = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
                let back = async {
                    let (mut left, mut buffer) = (bytes, [0; 512]);
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        let some = read.min(left);
                        let _ = to_client.write_all(&buffer[..some]).await;
                        left -= some;
                        if left == 0 {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    () = back => {}
                }
            });
        }
    });
    here
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_handed_in_followed_judged_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let instance = template("shop_price").unwrap().instantiate(10_000);
    let site = instance.serve().await.unwrap();
    let shown = check(
        &daemon,
        &["submit", instance.goal(), "--url", site.url.as_str(), "--follow"],
        "",
        0,
        &["plan: ", "✓ milestone", "  1 ", "done", "answer: "],
    );
    let id = shown.lines().next().unwrap().trim_start_matches("task ").to_owned();
    check(&daemon, &["show", &id], "", 0, &["state: done", &id]);
    check(&daemon, &["feedback", &id, "failure", "--note", "wrong price"], "", 0, &["✗"]);
    check(&daemon, &["show", &id, "--json"], "", 1, &["wrong price"]);
    let listed: Value = serde_json::from_str(&check(&daemon, &["list", "--json", "--state", "done"], "", 0, &[])).unwrap();
    assert_eq!(listed["tasks"][0]["id"], id);
    check(&daemon, &["list"], "", 0, &[&id, instance.goal()]);

    // Every event once and in order, on connections that break.
    let all = check(&daemon, &["follow", &id, "--json"], "", 1, &[]);
    let brittle = brittle(&daemon.address, 2_500).await;
    let output = tokio::task::block_in_place(|| client(&daemon, &brittle, &["follow", &id, "--json"], ""));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), all, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(all.len() > 2_500, "at least one connection broke");
    let seqs: Vec<u64> = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_the_terminal_decides() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let asking = Asking::serve().await;
    let task = daemon.submit(&asking.goal, &asking.url, asking.more.clone()).await;
    check(&daemon, &["follow", &task], "", 3, &["needs approval for", "call fetch", "milepost client approve"]);
    check(&daemon, &["message", &task, "take care"], "", 0, &["needs_approval"]);
    let shown = check(&daemon, &["show", &task, "--json"], "", 3, &[]);
    assert!(serde_json::from_str::<Value>(&shown).unwrap()["approval"]["action"].is_string(), "{shown}");
    let shown = client_asked(&daemon, &task).await;
    assert!(shown.contains("message to the agent: take care") && shown.contains("denied: not there"), "{shown}");
    check(&daemon, &["approve", &task], "", 2, &["it does not wait for a decision"]);
    check(&daemon, &["cancel", &task], "", 2, &["ended already"]);
}

/// Follows with a person who says no whenever they are asked, to the end.
async fn client_asked(daemon: &Daemon, task: &str) -> String {
    let answers = "n not there\n".repeat(8);
    let output = tokio::task::block_in_place(|| client(daemon, &daemon.address, &["follow", task, "--ask"], &answers));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_its_fix() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let nowhere = "00000000-0000-7000-8000-000000000000";
    check(&daemon, &["show", nowhere], "", 2, &["there is no task"]);
    check(&daemon, &["show", "../adapters"], "", 2, &[]);
    check(&daemon, &["submit", " ", "--url", "http://127.0.0.1:1/"], "", 2, &["goal"]);
    check(&daemon, &["submit", "x", "--url", "http://127.0.0.1:1/", "--secret", "none"], "", 2, &["there is no secret"]);
    check(&daemon, &["list", "--state", "sleeping"], "", 2, &["sleeping"]);
    check(&daemon, &["--token-file", "/nowhere/token", "list"], "", 2, &["/nowhere/token", "--token-file"]);
    let reader = daemon.make_token("reader", "read", None);
    let file = directory.path().join("reader");
    std::fs::write(&file, format!("{reader}\n")).unwrap();
    let file = file.display().to_string();
    check(&daemon, &["--token-file", &file, "list"], "", 0, &[]);
    check(&daemon, &["--token-file", &file, "submit", "x", "--url", "http://127.0.0.1:1/"], "", 2, &["scope `run`"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = tokio::task::block_in_place(|| client(&daemon, &format!("http://{free}"), &["list"], ""));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && stderr.contains("milepost serve") && stderr.contains("refused"), "{stderr}");
    let said: HashSet<&str> = stderr.lines().collect();
    assert_eq!(said.len(), 1, "one message: {stderr}");
}
