//! Unmodified clients of other projects (the official OpenAI and MCP clients in Python), and the examples of the documentation.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use milepost_suites::{Served, template};

use super::harness::{Daemon, command};

/// Returns a Python interpreter with the official clients. Its environment is created once, beside the binary.
pub fn python() -> PathBuf {
    let environment = Path::new(env!("CARGO_BIN_EXE_milepost")).parent().unwrap().join("clients");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/clients.sh")).arg(environment).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Returns the path of a Python script for these tests.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/clients").join(name)
}

/// Serves a task of the suite that the seed model solves. Returns the site, and goal and address as environment variables.
async fn site() -> (Served, Vec<(&'static str, String)>) {
    let instance = template("shop_price").unwrap().instantiate(10_001);
    let site = instance.serve().await.unwrap();
    let url = site.url.join(instance.start_path()).unwrap();
    let task = vec![("GOAL", instance.goal().to_owned()), ("SITE", url.to_string())];
    (site, task)
}

/// Returns the environment variables for programs that connect to the daemon: its address and two tokens.
fn environment(daemon: &Daemon) -> Vec<(&'static str, String)> {
    let reader = daemon.make_token("reader", "read", None);
    vec![("DAEMON_URL", daemon.address.clone()), ("DAEMON_TOKEN", daemon.token.clone()), ("DAEMON_READER", reader)]
}

/// Runs a program, which must succeed, and returns what it prints. `log` is printed with a failure.
fn check_run(program: &mut Command, log: impl FnOnce() -> String) -> String {
    let Output { status, stdout, stderr } = program.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{program:?}\n{stdout}\n{stderr}\n{}", log());
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_work_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (_site, task) = site().await;
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[]));
    let environment = tokio::task::block_in_place(|| environment(&daemon));
    let run = |name: &str| {
        let mut program = Command::new(python());
        program.arg(script(name)).envs(environment.iter().chain(&task).cloned());
        tokio::task::block_in_place(|| check_run(&mut program, || daemon.log()))
    };

    let finished = run("openai_client.py");
    assert_eq!(daemon.get(&format!("/v1/tasks/{}", finished.trim())).await["state"], "done");
    // The client closed the connections of the last two tasks before their end, which cancelled them.
    let abandoned = daemon.get("/v1/tasks?limit=2").await;
    for task in abandoned["tasks"].as_array().unwrap() {
        let id = task["id"].as_str().unwrap();
        let events = daemon.follow(id, 0, |_| false).await;
        assert_eq!(events.last().unwrap().data["data"]["state"], "cancelled", "{events:?}");
    }
    run("mcp_client.py");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_client_starts_the_binary_and_uses_it_over_stdio() {
    let directory = tempfile::tempdir().unwrap();
    let (_site, task) = site().await;
    let binary = ("MILEPOST", env!("CARGO_BIN_EXE_milepost").to_owned());
    let mut program = command(directory.path(), &[], &[]);
    let settings: Vec<_> = program.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    program = Command::new(python());
    program.current_dir(directory.path()).envs(settings).args([script("mcp_client.py").as_os_str(), "stdio".as_ref()]);
    program.envs(task.into_iter().chain([binary]));
    tokio::task::block_in_place(|| check_run(&mut program, String::new));
}

/// Returns the code blocks of `docs/serve.md` in a language.
fn examples(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/serve.md")).unwrap();
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_run_as_they_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let (_site, task) = site().await;
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[]));
    let environment = tokio::task::block_in_place(|| environment(&daemon));
    let run = |program: &str, arguments: &[&str]| {
        let mut program = Command::new(program);
        program.current_dir(directory.path()).args(arguments).envs(environment.iter().chain(&task).cloned());
        tokio::task::block_in_place(|| check_run(&mut program, || daemon.log()))
    };
    let (shell_examples, python_examples) = (examples("sh"), examples("python"));
    assert!(shell_examples.len() >= 2 && python_examples.len() >= 3, "{shell_examples:?} {python_examples:?}");
    for example in shell_examples {
        let printed = run("bash", &["-euo", "pipefail", "-c", &example]);
        assert!(printed.contains("milepost/") || printed.contains("\"result\""), "{example}\n{printed}");
    }
    for example in python_examples {
        let printed = run(python().to_str().unwrap(), &["-c", &example]);
        assert!(!printed.trim().is_empty(), "{example}");
    }
}
