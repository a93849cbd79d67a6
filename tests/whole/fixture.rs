//! Tests that this version reads a data directory that an earlier version wrote, and names an episode that it cannot read.
//!
//! `tests/fixtures/make.py` wrote the directory with the program of the version that its name ends with.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::{EpisodeStore, SqliteStore};
use milepost_service::{Job, Ports, Report, RunFailure, Runner, Service, ServiceConfig, TaskState, WebhookRequest, WebhookSender};
use serde_json::Value;

use crate::command_line::milepost;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/data-0.1.0");
const MODEL: [(&str, &str); 1] = [("MILEPOST_LOCAL__MODEL", concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed"))];

/// Returns a temporary directory that holds a copy of the fixture's data as `data`.
fn copied() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(&Path::new(FIXTURE).join("data"), &directory.path().join("data"));
    directory
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).unwrap();
        }
    }
}

/// Returns the contents of the data directory as the earlier version printed them.
fn told() -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(FIXTURE).join("told.json")).unwrap()).unwrap()
}

/// Checks that `now` holds everything that is in `before`, unchanged; `now` may have more keys.
fn check_kept(path: &str, before: &Value, now: &Value) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (key, value) in before {
                let path = format!("{path}.{key}");
                check_kept(&path, value, now.get(key).unwrap_or_else(|| panic!("{path} is gone")));
            }
        }
        (Value::Array(before), Value::Array(now)) => {
            assert_eq!(before.len(), now.len(), "{path}");
            before.iter().zip(now).enumerate().for_each(|(index, (before, now))| check_kept(&format!("{path}[{index}]"), before, now));
        }
        (Value::Number(before), Value::Number(now)) => assert_eq!(before.as_f64(), now.as_f64(), "{path}"),
        (before, now) => assert_eq!(before, now, "{path}"),
    }
}

/// Runs a command, which must succeed, and returns the JSON that it prints.
fn asked(directory: &Path, arguments: &[&str]) -> Value {
    let output = milepost(directory, arguments, &MODEL);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_recorded_episode_is_read_as_it_was() {
    let (directory, told) = (copied(), told());
    let episodes = told["episodes"].as_array().unwrap();
    let listed = asked(directory.path(), &["episodes", "list", "--limit", "100", "--json"]);
    assert!(episodes.len() > 8 && listed.as_array().unwrap().len() == episodes.len());
    for episode in episodes {
        let id = episode["id"].as_str().unwrap();
        check_kept(id, episode, &asked(directory.path(), &["episodes", "export", id]));
    }
    let quarantined = asked(directory.path(), &["episodes", "quarantine", "--json"]);
    assert_eq!((&quarantined[0]["host"], &quarantined[0]["reason"]), (&"ads.example".into(), &"advertisements".into()));
}

#[tokio::test]
async fn an_episode_that_cannot_be_read_is_named_and_stays() {
    let directory = copied();
    let path = directory.path().join("data/episodes.db");
    let told = told();
    let acted = |episode: &&Value| !episode["steps"].as_array().unwrap().is_empty();
    let id = told["episodes"].as_array().unwrap().iter().find(acted).unwrap()["id"].as_str().unwrap().to_owned();
    // The edit turns the step into one of a version with an action that this version does not have.
    let edit = format!("UPDATE steps SET step = replace(step, '\"action\":\"', '\"action\":\"teleport ') WHERE episode_id = '{id}'");
    let edited = std::process::Command::new("python3")
        .args(["-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute(sys.argv[2]).rowcount); c.commit()"])
        .args([path.to_str().unwrap(), &edit])
        .output()
        .unwrap();
    assert_ne!(String::from_utf8_lossy(&edited.stdout).trim(), "0");
    let output = milepost(directory.path(), &["episodes", "show", &id], &MODEL);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&id) && said.contains("teleport"), "{said}");
    let listed = asked(directory.path(), &["episodes", "list", "--limit", "100", "--json"]);
    assert!(listed.as_array().unwrap().iter().any(|episode| episode["id"] == id.as_str()), "it is still there");
}

#[test]
fn adapters_keep_their_history_and_prove_themselves() {
    let (directory, told) = (copied(), told());
    check_kept("adapters", &told["adapters"], &asked(directory.path(), &["adapters", "list", "--json"]));
    // A promotion proves the adapter: it loads the model with the adapter and compares its log-probabilities with the probes.
    for adapter in told["adapters"].as_array().unwrap() {
        let id = adapter["id"].as_str().unwrap();
        if adapter["recipe"] == "sft" {
            assert_eq!(asked(directory.path(), &["adapters", "promote", id, "--json"])["id"], id);
        }
    }
    let state = directory.path().join("data/improve/run-1/state.json");
    let state: milepost_improve::rounds::State = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    assert!(state.rounds.len() == 1 && state.rounds[0].candidate.is_some());
}

/// A runner whose runs never end.
struct Endless;

#[async_trait]
impl Runner for Endless {
    async fn run(&self, _: Job) -> Result<Report, RunFailure> {
        std::future::pending().await
    }
}

#[async_trait]
impl WebhookSender for Endless {
    async fn send(&self, _: &WebhookRequest) -> Result<u16, String> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_queue_goes_on_where_a_killed_daemon_left_it() {
    let (directory, told) = (copied(), told());
    let data = directory.path().join("data");
    let episodes: Arc<dyn EpisodeStore> = Arc::new(SqliteStore::open(&data).await.unwrap());
    let ports = Ports { runner: Arc::new(Endless), episodes, webhook_sender: Arc::new(Endless) };
    let service = Service::open(&data.join("service"), ServiceConfig::default(), ports).await.unwrap();
    for state in TaskState::ALL {
        let before = &told["tasks"][state.word()];
        let task = service.get(before["id"].as_str().unwrap()).await.unwrap();
        // The kill interrupted the tasks that had a runner. The running one is queued again, because its caller had allowed that; the one
        // that waited for approval is interrupted.
        let expected: &[TaskState] = match state {
            TaskState::Running | TaskState::Queued => &[TaskState::Queued, TaskState::Running],
            TaskState::NeedsApproval => &[TaskState::Interrupted],
            state => &[state],
        };
        assert!(expected.contains(&task.state), "{state}: {}", task.state);
        let now = serde_json::to_value(&task).unwrap();
        for key in ["id", "caller", "answer", "success", "created_at"] {
            assert_eq!(now[key], before[key], "{state}: {key}");
        }
        assert_eq!((&now["submission"]["goal"], &now["submission"]["url"]), (&before["goal"], &before["url"]));
        assert!(!service.recent_events(1000).await.unwrap().iter().all(|event| event.task != task.id), "{state}: its events are there");
    }
}

#[test]
fn tokens_are_known_and_every_key_of_a_configuration_is_read() {
    let directory = copied();
    let names = asked(directory.path(), &["token", "list", "--json"]);
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["reader", "soon-over"]);
    let config = Path::new(FIXTURE).join("config.yaml");
    let output = milepost(directory.path(), &["--config", config.to_str().unwrap(), "config", "show", "--json"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut before: Value = serde_norway::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    // The test sets the directory of the episodes itself.
    before["episodes"].as_object_mut().unwrap().remove("directory");
    check_kept("config", &before, &serde_json::from_slice(&output.stdout).unwrap());
}
