//! Other people's clients, unchanged: the official OpenAI and MCP clients in Python, and the examples of the documentation as they are shown.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use milepost_suites::{Served, template};

use super::harness::{Daemon, command};

/// A Python with the official clients, made once beside the build.
pub fn python() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_milepost")).parent().unwrap().join("clients");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/clients.sh")).arg(beside).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// A script of this directory.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/clients").join(name)
}

/// A site of the suite with a task that the seed model does.
async fn site() -> (Served, Vec<(&'static str, String)>) {
    let instance = template("shop_price").unwrap().instantiate(10_001);
    let site = instance.serve().await.unwrap();
    let url = site.url.join(instance.start_path()).unwrap();
    let task = vec![("GOAL", instance.goal().to_owned()), ("SITE", url.to_string())];
    (site, task)
}

/// What programs that speak to a daemon find in their environment.
fn environment(daemon: &Daemon) -> Vec<(&'static str, String)> {
    let reader = daemon.make_token("reader", "read", None);
    vec![("DAEMON_URL", daemon.address.clone()), ("DAEMON_TOKEN", daemon.token.clone()), ("DAEMON_READER", reader)]
}

/// Runs a program that must succeed; gives what it printed.
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

    let asked = run("openai_client.py");
    assert_eq!(daemon.get(&format!("/v1/tasks/{}", asked.trim())).await["state"], "done");
    // Whoever hangs up takes the task along: both ends come without anybody's doing.
    let abandoned = daemon.get("/v1/tasks?limit=2").await;
    for task in abandoned["tasks"].as_array().unwrap() {
        let id = task["id"].as_str().unwrap();
        let told = daemon.follow(id, 0, |_| false).await;
        assert_eq!(told.last().unwrap().data["data"]["state"], "cancelled", "{told:?}");
    }
    run("mcp_client.py");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_the_program_speaks_to_it_over_stdio() {
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

/// The blocks of the documentation in a language, as they are shown.
fn examples(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/serve.md")).unwrap();
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_run_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (_site, task) = site().await;
    let daemon = tokio::task::block_in_place(|| Daemon::start(directory.path(), &[]));
    let environment = tokio::task::block_in_place(|| environment(&daemon));
    let run = |program: &str, arguments: &[&str]| {
        let mut program = Command::new(program);
        program.current_dir(directory.path()).args(arguments).envs(environment.iter().chain(&task).cloned());
        tokio::task::block_in_place(|| check_run(&mut program, || daemon.log()))
    };
    let (shell, python_ones) = (examples("sh"), examples("python"));
    assert!(shell.len() >= 2 && python_ones.len() >= 3, "{shell:?} {python_ones:?}");
    for example in shell {
        let said = run("bash", &["-euo", "pipefail", "-c", &example]);
        assert!(said.contains("milepost/") || said.contains("\"result\""), "{example}\n{said}");
    }
    for example in python_ones {
        let said = run(python().to_str().unwrap(), &["-c", &example]);
        assert!(!said.trim().is_empty(), "{example}");
    }
}
