//! Tests of the browser's processes: when they end, and that nothing is left of them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use milepost_runtime::{Action, Environment, Error, Observation, Secrets};
use milepost_tools::browser::{BrowserEnvironment, reap_orphans};

use super::{Fixture, config, id};

/// The maximum time to wait for an event that must happen.
const TIMEOUT: Duration = Duration::from_secs(120);

fn assert_gone(result: Result<Observation, Error>) {
    assert!(matches!(result, Err(Error::EnvironmentGone(_))), "{result:?}");
}

/// Whether all these processes are gone (a zombie, which only waits to be reaped, counts as gone).
fn gone(pids: &[u32]) -> bool {
    pids.iter().all(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_is_gone() {
    let mut fixture = Fixture::new().await;
    fixture.open("/form").await;
    let pids = fixture.browser.processes();
    assert!(pids.len() > 2, "{pids:?}");
    pids.iter().skip(1).for_each(|pid| kill(*pid));
    assert_gone(fixture.browser.observe().await);
    assert_gone(fixture.browser.observe().await);
    assert!(gone(&pids));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_driver_is_gone_too() {
    let mut fixture = Fixture::new().await;
    fixture.open("/form").await;
    let pids = fixture.browser.processes();
    kill(pids[0]);
    assert_gone(fixture.browser.observe().await);
    assert!(gone(&pids));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_page_is_killed() {
    let mut fixture =
        Fixture::with(|config| (config.command_timeout_ms, config.page_load_timeout_ms) = (4_000, 2_000), |_| Secrets::default()).await;
    let page = fixture.open("/spin").await;
    let pids = fixture.browser.processes();
    let begun = Instant::now();
    let clicked = fixture.browser.act(&Action::Click(id(&page, "button", "Spin"))).await;
    if clicked.is_ok() {
        // The page's endless script starts a moment after the click; an observation before that succeeds.
        let mut seen = fixture.browser.observe().await;
        while seen.is_ok() && begun.elapsed() < TIMEOUT {
            tokio::time::sleep(Duration::from_millis(50)).await;
            seen = fixture.browser.observe().await;
        }
        assert_gone(seen);
    }
    assert!(gone(&pids));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_drop_and_close() {
    let Fixture { browser, state, .. } = Fixture::new().await;
    let pids = browser.processes();
    let profiles = profiles(state.path());
    assert_eq!(profiles.len(), 1);
    drop(browser);
    assert!(gone(&pids) && !profiles[0].exists());
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);

    let mut fixture = Fixture::new().await;
    let pids = fixture.browser.processes();
    fixture.browser.close().await.unwrap();
    assert!(gone(&pids));
    assert_gone(fixture.browser.observe().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_takes_too_much_memory_is_ended() {
    let mut fixture = Fixture::with(|config| config.memory_mib = Some(1), |_| Secrets::default()).await;
    let pids = fixture.browser.processes();
    let ended = async {
        while fixture.browser.observe().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, ended).await.unwrap();
    assert_gone(fixture.browser.observe().await);
    assert!(gone(&pids));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_of_a_dead_process_is_reaped() {
    let mut fixture = Fixture::new().await;
    fixture.open("/form").await;
    assert_eq!(reap_orphans(fixture.state.path()).unwrap(), 0, "the owner lives");
    let (pids, profiles) = (fixture.browser.processes(), profiles(fixture.state.path()));
    // Change the record to that of an owner that has ended: with this process's id but another start time.
    let record = std::fs::read_dir(fixture.state.path()).unwrap().flatten().next().unwrap().path();
    let mut read: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    read["owner_start"] = serde_json::json!(read["owner_start"].as_u64().unwrap() - 1);
    std::fs::write(&record, read.to_string()).unwrap();
    assert_eq!(reap_orphans(fixture.state.path()).unwrap(), 1);
    assert!(gone(&pids) && !profiles[0].exists() && !record.exists());
    assert_gone(fixture.browser.observe().await);
}

/// The environment variable that makes a child process of this test program hold a browser; its value is the state directory.
const HOLDER: &str = "MILEPOST_TEST_HOLD_A_BROWSER_IN";

/// Runs in the child process of the next test: holds a browser until the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn holds_a_browser_when_asked_to() {
    let Some(state) = std::env::var_os(HOLDER).map(PathBuf::from) else { return };
    let browser = BrowserEnvironment::launch(&config(&state), Secrets::default()).await.unwrap();
    println!("\npids {:?}", browser.processes());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_outright_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap());
    let holder = holder.args(["--exact", "processes::holds_a_browser_when_asked_to", "--nocapture"]).env(HOLDER, state.path());
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap).find(|line| line.starts_with("pids ")).unwrap();
    let pids: Vec<u32> = serde_json::from_str(line.trim_start_matches("pids ")).unwrap();
    assert!(pids.len() > 2, "{pids:?}");
    let profiles = profiles(state.path());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(reap_orphans(state.path()).unwrap(), 1);
    assert!(gone(&pids) && !profiles[0].exists());
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drives_through_a_running_server() {
    let fixture = Fixture::new().await;
    let port = driver_port(fixture.browser.processes()[0]);
    let mut config = config(fixture.state.path());
    config.webdriver_url = Some(format!("http://127.0.0.1:{port}"));
    let mut joined = BrowserEnvironment::launch(&config, Secrets::default()).await.unwrap();
    joined.reset(&fixture.site.task("/form")).await.unwrap();
    assert_eq!(joined.observe().await.unwrap().path(), "/form");
    joined.close().await.unwrap();
    config.webdriver_url = Some("https://grid.example".into());
    let error = BrowserEnvironment::launch(&config, Secrets::default()).await.unwrap_err();
    assert!(error.to_string().contains("browser.webdriver_url"), "{error}");
}

fn profiles(state: &Path) -> Vec<PathBuf> {
    let read = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap();
    let records = std::fs::read_dir(state).unwrap().flatten().map(|entry| read(entry.path()));
    records.map(|record| record["profile"].as_str().unwrap().into()).collect()
}

fn kill(pid: u32) {
    // SAFETY: kill takes two numbers; the process is one that this test started.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// Returns the TCP port at which a process listens.
fn driver_port(pid: u32) -> u16 {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let listening = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row[3] == "0A" && sockets.contains(&format!("socket:[{}]", row[9])));
    u16::from_str_radix(listening.unwrap()[1].split_once(':').unwrap().1, 16).unwrap()
}
