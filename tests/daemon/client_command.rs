//! The command `milepost client` against the daemon: submitting, following and deciding, and its error messages.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Output, Stdio};

use milepost_suites::{Served, template};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{Daemon, command};

/// A task that needs a person's approval, since its agent calls a tool that is not granted to it.
pub struct TaskNeedingApproval {
    pub goal: String,
    pub url: String,
    /// The other fields of the submission.
    pub fields: Value,
    _site: Served,
}

impl TaskNeedingApproval {
    /// Serves the site of a task that the seed model solves once the call is approved.
    pub async fn serve() -> Self {
        let instance = template("records_badge").unwrap().instantiate(10_042);
        let site = instance.serve().await.unwrap();
        let url = instance.task(&site.url).unwrap().start_url.to_string();
        Self { goal: instance.goal().into(), url, fields: json!({ "capability": { "tools": [] } }), _site: site }
    }
}

/// Runs `milepost client` for the server at this address, with this text on its standard input.
fn client(daemon: &Daemon, server: &str, arguments: &[&str], input: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("MILEPOST_SERVER", server), ("MILEPOST_TOKEN", daemon.token.as_str())];
    let mut command = command(directory.path(), &[&["client"], arguments].concat(), &settings);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs `milepost client`, checks its exit code and that it prints these texts, and returns its standard output.
fn check(daemon: &Daemon, arguments: &[&str], input: &str, code: i32, expected: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| client(daemon, &daemon.address, arguments, input));
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stdout}{stderr}{}", daemon.log());
    let is_printed = |text: &&str| stdout.contains(*text) || stderr.contains(*text);
    assert!(expected.iter().all(is_printed), "{arguments:?} should print {expected:?}: {stdout}{stderr}");
    stdout
}

/// Starts a proxy in front of the daemon that breaks every connection after this number of bytes from the daemon. Returns its address.
async fn breaking_proxy(address: &str, bytes: usize) -> String {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), address.trim_start_matches("http://").to_owned());
    let here = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
                let answer = async {
                    let (mut remaining, mut buffer) = (bytes, [0; 512]);
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        let length = read.min(remaining);
                        let _ = to_client.write_all(&buffer[..length]).await;
                        remaining -= length;
                        if remaining == 0 {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    () = answer => {}
                }
            });
        }
    });
    here
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_followed_judged_and_listed() {
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

    // Over connections that break, every event arrives once and in order.
    let all = check(&daemon, &["follow", &id, "--json"], "", 1, &[]);
    let proxy = breaking_proxy(&daemon.address, 2_500).await;
    let output = tokio::task::block_in_place(|| client(&daemon, &proxy, &["follow", &id, "--json"], ""));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), all, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(all.len() > 2_500, "no connection has broken");
    let seqs: Vec<u64> = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_denies_a_request_at_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let example = TaskNeedingApproval::serve().await;
    let task = daemon.submit(&example.goal, &example.url, example.fields.clone()).await;
    check(&daemon, &["follow", &task], "", 3, &["needs approval for", "call fetch", "milepost client approve"]);
    check(&daemon, &["message", &task, "take care"], "", 0, &["needs_approval"]);
    let shown = check(&daemon, &["show", &task, "--json"], "", 3, &[]);
    assert!(serde_json::from_str::<Value>(&shown).unwrap()["approval"]["action"].is_string(), "{shown}");
    let shown = follow_and_deny(&daemon, &task).await;
    assert!(shown.contains("message to the agent: take care") && shown.contains("denied: not there"), "{shown}");
    check(&daemon, &["approve", &task], "", 2, &["it does not wait for a decision"]);
    check(&daemon, &["cancel", &task], "", 2, &["ended already"]);
}

/// Follows a task to its end as a person who denies every request, and returns what the command prints.
async fn follow_and_deny(daemon: &Daemon, task: &str) -> String {
    let answers = "n not there\n".repeat(8);
    let output = tokio::task::block_in_place(|| client(daemon, &daemon.address, &["follow", task, "--ask"], &answers));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn error_messages_say_what_is_wrong_and_how_to_fix_it() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), &[]);
    let unknown = "00000000-0000-7000-8000-000000000000";
    check(&daemon, &["show", unknown], "", 2, &["there is no task"]);
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
    let messages: HashSet<&str> = stderr.lines().collect();
    assert_eq!(messages.len(), 1, "more than one message: {stderr}");
}
