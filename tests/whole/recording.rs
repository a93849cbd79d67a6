//! Tests of episodes in SQLite: an episode is read back as it was written, a process that dies leaves the steps so far, and pruning removes
//! old episodes.

use milepost::config::Config;
use milepost::suite::{EpisodeEnvironment, play};
use milepost_runtime::config::Screenshots;
use milepost_runtime::episode::Timing;
use milepost_runtime::{Action, Call, Episode, EpisodeStore, Grammar, NoListener, Plan, Planned, Role, Span, SqliteStore, Stop, Task};
use milepost_suites::play::Player;
use milepost_suites::template;
use tokio_util::sync::CancellationToken;

use crate::command_line::milepost;

fn call(seed: u64) -> Call {
    Call {
        role: Role::Executor,
        prompt_ids: vec![1, 2, 70_000],
        completion_ids: vec![5, 0],
        spans: vec![Span { role: Role::Planner, start: 0, end: 1 }, Span { role: Role::Executor, start: 1, end: 2 }],
        grammar: Some(Grammar("start: \"a\"".into())),
        logprobs: vec![-0.5, -1.25e-7],
        free_logprobs: vec![-0.75, f32::NEG_INFINITY],
        temperature: 0.7,
        seed,
        generation: "abc".into(),
        latency_ms: 12.5,
    }
}

/// Returns the lines of an episode's JSON. Wall times are left out, because JSON does not keep their last binary digit.
fn lines(episode: &Episode) -> Vec<String> {
    let mut episode = episode.clone();
    for step in &mut episode.steps {
        step.timing = Timing::default();
    }
    serde_json::to_string_pretty(&episode).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_episode_is_read_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let cancel = CancellationToken::new();
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::All, generation: "oracle".into(), cancel };
    let instance = template("shop_swap").unwrap().instantiate(10_003);
    let played = play(&instance, 1, &mut EpisodeEnvironment::Plain, &player, &Config::default(), &mut NoListener).await.unwrap();
    let read = store.load(&played.episode.id).await.unwrap().unwrap();
    assert_eq!(lines(&read), lines(&played.episode));
    assert_eq!(read.success, Some(true));
}

#[tokio::test]
async fn a_failure_is_explained_by_the_success_that_it_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
    let cancel = CancellationToken::new();
    let player = Player { policy: None, verifier: None, store: &store, screenshots: Screenshots::Off, generation: "oracle".into(), cancel };
    let instance = template("shop_swap").unwrap().instantiate(10_003);
    let good = play(&instance, 1, &mut EpisodeEnvironment::Plain, &player, &Config::default(), &mut NoListener).await.unwrap().episode;
    let mut bad = Episode::begin(good.task.clone(), "adaplan", "abc");
    bad.steps = good.steps[..3].to_vec();
    bad.steps[2].action = Action::parse("back").unwrap();
    (bad.stop, bad.ended_at) = (Some(Stop::GaveUp("lost".into())), Some(chrono::Utc::now()));
    store.begin(&bad).await.unwrap();
    for step in &bad.steps {
        store.step(&bad.id, step).await.unwrap();
    }
    store.end(&bad).await.unwrap();
    let why = |id: &str, arguments: &[&str]| {
        let output = milepost(directory.path(), &[&["episodes", "why", id], arguments].concat(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(why(&bad.id, &[]).contains("never verified"));
    store.set_success(&bad.id, Some(false)).await.unwrap();
    let (words, instead) = (why(&bad.id, &[]), good.steps[2].action.to_string());
    assert!(words.contains("wrong termination") && words.contains("back") && words.contains(&instead), "{words}");
    let json: serde_json::Value = serde_json::from_str(&why(&bad.id, &["--json"])).unwrap();
    assert_eq!((&json["class"], &json["key"]["turn"]), (&"wrong_termination".into(), &2.into()), "{json}");
    assert_eq!((&json["key"]["diverged"]["from"], &json["key"]["diverged"]["instead"]), (&good.id.into(), &instead.into()), "{json}");
}

#[tokio::test]
async fn calls_keep_their_token_ids_and_log_probabilities_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let mut episode = Episode::begin(Task::new("x", "http://a.org/").unwrap(), "adaplan", "abc");
    store.begin(&episode).await.unwrap();
    store.call(&episode.id, None, &call(u64::MAX)).await.unwrap();
    let plan = Plan::new(vec![Planned::parse("open the cart => url contains \"/cart\"").unwrap()]);
    store.plan(&episode.id, &plan).await.unwrap();
    // Here the process dies in the test's scenario: the episode was not ended, and everything that was recorded so far can be read.
    let read = SqliteStore::open(directory.path()).await.unwrap().load(&episode.id).await.unwrap().unwrap();
    assert_eq!(serde_json::to_string(&read.calls).unwrap(), serde_json::to_string(&vec![call(u64::MAX)]).unwrap());
    assert_eq!(read.plans, vec![plan]);
    assert_eq!(read.stop, None);
    episode.ended_at = Some(chrono::Utc::now());
    store.end(&episode).await.unwrap();
    assert_eq!(store.prune(chrono::Utc::now()).await.unwrap().episodes, 1);
    assert!(store.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_ends_the_run_and_keeps_what_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    // No file may grow beyond 600 KiB, so that writing to the database fails as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 600; exec \"$0\" suite run --oracle --environment plain --episodes 60";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_milepost")])
        .current_dir(directory.path())
        .env("MILEPOST_EPISODES__DIRECTORY", directory.path().join("data"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("episodes.db") && stderr.contains("free some space") && !stderr.contains("panicked"), "{stderr}");
    let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
    let kept = store.list(1000).await.unwrap();
    assert!(kept.len() > 3, "{} episodes", kept.len());
    for summary in kept {
        let episode = store.load(&summary.id).await.unwrap().unwrap();
        assert_eq!(episode.steps.len() as i64, summary.steps);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_where_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    std::fs::write(&file, "in the way").unwrap();
    let message = SqliteStore::open(&file).await.err().unwrap().to_string();
    assert!(message.contains("episodes.directory") && message.contains("data"), "{message}");
}
