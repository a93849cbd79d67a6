//! Tests of `milepost improve` with the seed model: a round that is killed and resumed, the gate, the store's rules, and each recipe.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use milepost::model;
use milepost_learners::adapter::LoraConfig;
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{EpisodeStore, SqliteStore};
use serde_json::Value;

use super::command_line::milepost;
use super::generations;

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");
const ARGUMENTS: [&str; 9] = ["improve", "--recipe", "successes", "--environment", "plain", "--rounds", "1", "--remeasure", "2"];

/// Configures a small round: 4 tasks with 2 episodes each, and one look of the gate with 3 validation tasks.
fn configure(directory: &Path) {
    let text = format!(
        "local: {{model: {SEED}}}\nepisodes: {{directory: data}}\nimprove:\n  levels: [easy]\n  tasks: 4\n  group: 2\n  temperature: 1.0\n  \
         update: {{precision: bf16, lr: 0.003}}\n  gate: {{looks: 1, tasks_per_look: 3}}\n"
    );
    std::fs::write(directory.join("config.yaml"), text).unwrap();
}

fn collected(directory: &Path) -> usize {
    let lines = std::fs::read_to_string(directory.join("data/improve/run-1/round-1/collected.jsonl")).unwrap_or_default();
    lines.lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_goes_on_after_a_kill_and_ends_with_a_decision() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.current_dir(directory.path()).args(ARGUMENTS).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while collected(directory.path()) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing was collected");
        std::thread::sleep(Duration::from_millis(20));
    }
    // A second updater on the same store is refused; the error names the process of the first one.
    let second = milepost(directory.path(), &ARGUMENTS, &[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(&child.id().to_string()), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    let before = collected(directory.path());
    leave_out(directory.path()).await;
    // The run's settings are in its directory, so that the command line need not repeat them.
    let output = milepost(directory.path(), &["improve", "--resume", "--json"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let round = &report["rounds"][0];
    assert!((3..8).contains(&before) && round["training"][1] == 7, "{before} before the kill, one of them is left out: {report}");
    assert_eq!(collected(directory.path()), 8, "what was collected is not collected again");
    assert_eq!(round["validation"]["candidate"][1], 3, "{report}");
    assert!(round["candidate"].is_string() && ["promote", "quarantine", "inconclusive"].iter().any(|word| round["decision"] == *word));
    assert_eq!(report["remeasured"][0]["test"][1], 2, "{report}");
    let listed = milepost(directory.path(), &["adapters", "list", "--json"], &[]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((listed[0]["id"].clone(), listed[0]["recipe"].clone()), (round["candidate"].clone(), "successes".into()), "{listed}");
    let other = milepost(directory.path(), &["improve", "--resume", "--recipe", "outcome"], &[]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.status.code() == Some(2) && said.contains("outcome") && said.contains("successes"), "{said}");
}

/// Removes the verdict of a collected episode, so that it may not be trained on.
async fn leave_out(directory: &Path) {
    let lines = std::fs::read_to_string(directory.join("data/improve/run-1/round-1/collected.jsonl")).unwrap();
    let whole = &lines[..lines.rfind('\n').unwrap()];
    let all: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let one = all.iter().find(|one| one["solved"] == false).unwrap_or(&all[0]);
    let store = SqliteStore::open(&directory.join("data")).await.unwrap();
    store.set_success(one["id"].as_str().unwrap(), None).await.unwrap();
    store.close().await;
}

/// With a limit of 4 steps the seed model fails at some easy tasks; only these get further episodes.
#[test]
fn a_task_that_greedy_play_solves_is_not_sampled() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let settings = [("MILEPOST_IMPROVE__GREEDY_FIRST", "true"), ("MILEPOST_IMPROVE__GROUP", "3"), ("MILEPOST_LIMITS__MAX_STEPS", "4")];
    let output = milepost(directory.path(), &[&ARGUMENTS[..], &["--json"]].concat(), &settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = std::fs::read_to_string(directory.path().join("data/improve/run-1/round-1/collected.jsonl")).unwrap();
    let played: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut sizes = std::collections::BTreeSet::new();
    for first in (0..12).step_by(3) {
        let of_group: Vec<&Value> = played.iter().filter(|one| (first..first + 3).contains(&one["index"].as_u64().unwrap())).collect();
        let greedy = of_group.iter().find(|one| one["index"] == first).unwrap();
        assert_eq!(of_group.len(), if greedy["solved"] == true { 1 } else { 3 }, "{lines}");
        sizes.insert(of_group.len());
    }
    assert_eq!(sizes.len(), 2, "both kinds were to be seen: {lines}");
}

/// Random adapters (as many as the variable `TRIES` says, or 1) pass their probes but play worse than the base; the gate quarantines each.
#[tokio::test(flavor = "multi_thread")]
async fn a_worse_policy_is_refused_at_the_gate() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let settings = [
        ("MILEPOST_IMPROVE__GATE__TASKS_PER_LOOK", "8"),
        // A broken policy generates until it reaches a limit.
        ("MILEPOST_LIMITS__MAX_STEPS", "12"),
        ("MILEPOST_POLICY__PLAN_TOKENS", "120"),
    ];
    let base = model::load(&generations::settings(directory.path())).await.unwrap().engine.generation();
    let tries: u64 = std::env::var("TRIES").map_or(1, |text| text.parse().unwrap());
    for number in 0..tries {
        let adapter =
            generations::scaled(directory.path(), &base, LoraConfig { rank: 8, alpha: 200.0, ..Default::default() }, 100 + number);
        let arguments = ["improve", "--candidate", adapter.to_str().unwrap(), "--environment", "plain", "--remeasure", "0", "--json"];
        let output = milepost(directory.path(), &arguments, &settings);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let round = &report["rounds"][0];
        assert_eq!(round["decision"], "quarantine", "{report}");
        let again = milepost(directory.path(), &["adapters", "list", "--json"], &[]);
        let listed: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!((&listed[0]["status"], &listed[0]["serving"]), (&"quarantined".into(), &false.into()), "{listed}");
        println!("refused: {}", round["reason"]);
    }
}

/// The store also holds validation and test episodes, but an update that names one of them is refused.
#[tokio::test]
async fn an_update_refuses_episodes_that_may_not_be_trained_on() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let arguments = ["suite", "run", "--level", "easy", "--environment", "plain", "--episodes", "1", "--first-seed", "9000", "--json"];
    let output = milepost(directory.path(), &arguments, &[]);
    let generation: Value = serde_json::from_slice(&output.stdout).unwrap();
    let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
    let [episode] = &store.list(5).await.unwrap()[..] else { panic!("one episode was played") };
    assert!(store.trainable(&TrainingQuery::default()).await.unwrap().is_empty());
    assert_eq!(generation["generation"], episode.generation);
    let none = Value::Null;
    let other = serde_json::json!({"base": "x", "tokenizer": "", "chat_template": "", "prompts": "", "adapter": none, "parent": none});
    check_no_update(directory.path(), &episode.id, other, 5, "may not be trained on");
}

/// Checks that an update from this episode alone ends with this exit code, that the last line on stderr contains `says`, and that no
/// adapter is written.
fn check_no_update(directory: &Path, episode: &str, generation: Value, code: i32, says: &str) {
    let none = Value::Null;
    let request = serde_json::json!({
        "recipe": "outcome", "base": SEED, "parent": none, "store": "data", "roles": ["planner"], "policy": {}, "calls": none, "critics": none,
        "generation": generation, "episodes": [{"id": episode, "group": "g", "reward": 1.0}], "out": "out",
    });
    std::fs::write(directory.join("update.json"), request.to_string()).unwrap();
    let output = milepost(directory, &["learn", "policy", "update.json"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.lines().last().is_some_and(|last| last.contains(says)), "{said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!directory.join("out/adapter").exists());
}

/// A single episode has nothing to be compared with. This is the update's own fault, which its exit code distinguishes from a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_with_nothing_to_learn_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let arguments = ["suite", "run", "--level", "easy", "--environment", "plain", "--episodes", "1", "--first-seed", "1", "--json"];
    assert!(milepost(directory.path(), &arguments, &[]).status.success());
    let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
    let [episode] = &store.list(5).await.unwrap()[..] else { panic!("one episode was played") };
    let generation = model::load(&generations::settings(directory.path())).await.unwrap().engine.generation();
    assert_eq!(generation.id(), episode.generation);
    check_no_update(directory.path(), &episode.id, serde_json::to_value(generation).unwrap(), 1, "earned the same");
}

/// Copies a suite episode as an episode of a user's own task: with the same plans, steps and calls, but without a source in the suite.
async fn as_own(store: &SqliteStore, id: &str) {
    let mut episode = store.load(id).await.unwrap().unwrap();
    episode.id = format!("own-{id}");
    episode.task.source = None;
    store.begin(&episode).await.unwrap();
    for plan in &episode.plans {
        store.plan(&episode.id, plan).await.unwrap();
    }
    for call in &episode.calls {
        store.call(&episode.id, None, call).await.unwrap();
    }
    for step in &episode.steps {
        store.step(&episode.id, step).await.unwrap();
    }
    store.end(&episode).await.unwrap();
}

#[tokio::test]
async fn ones_own_verified_episodes_train_without_being_played_again() {
    let directory = tempfile::tempdir().unwrap();
    configure(directory.path());
    let arguments = ["suite", "run", "--level", "easy", "--environment", "plain", "--episodes", "3", "--first-seed", "1", "--json"];
    assert!(milepost(directory.path(), &arguments, &[]).status.success());
    let store = SqliteStore::open(&directory.path().join("data")).await.unwrap();
    for summary in store.list(9).await.unwrap() {
        as_own(&store, &summary.id).await;
    }
    let arguments = ["improve", "--suite", "own", "--recipe", "successes", "--environment", "plain", "--remeasure", "0", "--json"];
    let output = milepost(directory.path(), &arguments, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rounds"][0]["training"][1], 3, "{report}");
    assert!(report["rounds"][0]["candidate"].is_string(), "{report}");
    let solved = report["rounds"][0]["training"][0].as_u64().unwrap();
    assert!(solved > 0, "{report}");
    // The same successes now serve as expert trajectories: the first round imitates the recorded completions, the second samples the model
    // and matches it with the recorded actions.
    let arguments =
        ["improve", "--suite", "own", "--recipe", "single_turn", "--environment", "plain", "--rounds", "2", "--remeasure", "0", "--json"];
    let settings =
        [("MILEPOST_IMPROVE__IN_DOUBT", "3"), ("MILEPOST_IMPROVE__UPDATE__LEAST_DOUBT", "0"), ("MILEPOST_IMPROVE__TEMPERATURE", "1.5")];
    let output = milepost(directory.path(), &arguments, &settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = |round: usize| -> Vec<Value> {
        let path = directory.path().join(format!("data/improve/run-2/round-{round}/calls.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stdout)));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (imitated, matched) = (calls(1), calls(2));
    let own: std::collections::BTreeMap<Vec<u64>, Vec<u64>> = recorded_calls(&store).await;
    for call in &imitated {
        let ids = |key: &str| call["call"][key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(Some(&ids("completion_ids")), own.get(&ids("prompt_ids")), "the words of the record, after its prompt");
    }
    let states =
        |calls: &[Value]| calls.iter().map(|call| call["group"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>();
    assert!(imitated.len() as u64 > solved && states(&matched).iter().all(|state| state.starts_with("http")), "{:?}", states(&matched));
    assert!(matched.iter().any(|call| call["reward"] == 1.0), "what it did before it can do again");
}

/// Returns the recorded completions of the user's own successes, by their prompts.
async fn recorded_calls(store: &SqliteStore) -> std::collections::BTreeMap<Vec<u64>, Vec<u64>> {
    let query = TrainingQuery { from_suite: Some(false), ..TrainingQuery::default() };
    let wide = |ids: &[u32]| ids.iter().map(|id| u64::from(*id)).collect::<Vec<_>>();
    let mut calls = std::collections::BTreeMap::new();
    for id in store.trainable(&query).await.unwrap() {
        let episode = store.load(&id).await.unwrap().unwrap();
        let of_steps = episode.steps.iter().flat_map(|step| &step.calls);
        let all = episode.calls.iter().chain(of_steps);
        calls.extend(all.map(|call| (wide(&call.prompt_ids), wide(&call.completion_ids))));
    }
    calls
}

/// Returns the lines of a file of JSON lines in the directory of an arm's round.
fn lines(directory: &Path, arm: &str, round: usize, file: &str) -> Vec<Value> {
    let path = directory.join(format!("work/recipes/{arm}-1/round-{round}/{file}"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs each paper's recipe as an arm of an experiment, from its episodes to its test, and checks the trained roles, the rewards and the
/// source of the plans.
#[tokio::test(flavor = "multi_thread")]
async fn every_recipe_goes_through_its_rounds() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "name: recipes\nclaim: they run\nstart: {SEED}\nlevels: [easy]\ntest: 1\nexpert_states: 1\nseeds: [1]\nsettings:\n  local: {{backend: native}}\n  limits: {{max_steps: 6}}\n  \
         improve: {{tasks: 2, group: 2, temperature: 1.2, update: {{lr: 0.0001, least_doubt: 0.0}}}}\narms:\n- {{name: start}}\n\
         - {{name: pilotrl, rounds: 3, settings: {{improve: {{recipe: pilotrl}}}}}}\n\
         - {{name: rltr, rounds: 1, settings: {{improve: {{recipe: rltr}}}}}}\n\
         - {{name: mira, rounds: 2, settings: {{improve: {{recipe: mira, update: {{overlong: {{max_tokens: 1000, buffer: 1000, factor: 100}}}}}}, policy: {{planner: subgoal}}}}}}\n\
         - {{name: single_turn, rounds: 2, settings: {{improve: {{recipe: single_turn, in_doubt: 4}}}}, against: start}}\n"
    );
    std::fs::write(directory.path().join("recipes.yaml"), text).unwrap();
    let arguments = ["experiment", "recipes.yaml", "--work", "work", "--results", "results", "--environment", "plain", "--json"];
    let output = milepost(directory.path(), &arguments, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let arms: Vec<&Value> = results["arms"].as_array().unwrap().iter().collect();
    assert!(arms.len() == 5 && arms.iter().all(|arm| arm["n"] == 1), "{results}");
    assert_eq!((&arms[4]["against"], &arms[4]["p_against"]), (&"start".into(), &1.0.into()));
    let [right, all] = [0, 1].map(|at| arms[0]["matched"][at].as_u64().unwrap());
    assert!((1..=all).contains(&right), "{results}");
    let round = |arm: &str, number: usize, file: &str| lines(directory.path(), arm, number, file);
    let whole = |arm: &str, number: usize, file: &str| -> Value {
        let path = directory.path().join(format!("work/recipes/{arm}-1/round-{number}/{file}"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let update = |arm: &str, number: usize| whole(arm, number, "update.json");
    let roles = |arm: &str, number: usize| update(arm, number)["roles"].clone();
    let stages = [1, 2, 3].map(|number| roles("pilotrl", number));
    assert_eq!(stages, [serde_json::json!(["executor"]), serde_json::json!(["planner"]), serde_json::json!(["planner", "executor"])]);
    let earned = |arm: &str, number: usize| -> std::collections::BTreeSet<String> {
        let terms = round(arm, number, "collected.jsonl").into_iter().flat_map(|one| one["terms"].as_array().unwrap().clone());
        terms.map(|term| term["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(earned("pilotrl", 1).contains("adherence") && !earned("pilotrl", 3).contains("adherence"));
    assert!(earned("pilotrl", 2).iter().any(|name| name.starts_with("plan_")) && earned("rltr", 1).contains("completeness"));
    assert_eq!(roles("rltr", 1), serde_json::json!(["planner", "executor"]));
    // In the first stage the plans come from the expert; in the second the policy writes them itself.
    let store = SqliteStore::open(&directory.path().join("work/recipes/pilotrl-1")).await.unwrap();
    for (number, planned) in [(1, false), (2, true)] {
        for one in round("pilotrl", number, "collected.jsonl") {
            let episode = store.load(one["id"].as_str().unwrap()).await.unwrap().unwrap();
            let by_itself = episode.calls.iter().any(|call| call.role == milepost_runtime::Role::Planner);
            assert!(by_itself == planned && !episode.plans[0].steps.is_empty(), "round {number}");
        }
    }
    assert!(update("mira", 2)["critics"].is_string(), "the critics of the first round are gone on with");
    assert_eq!(update("mira", 1)["policy"]["credit"], "mira");
    let report = whole("mira", 1, "update/report.json");
    assert!(report["reward"].as_f64().unwrap() < 0.0, "each episode is fined for its length: {report}");
    let actors = [1, 2].map(|number| update("single_turn", number)["policy"]["actor"].clone());
    assert_eq!(actors, ["likelihood", "ratio"]);
    assert!(round("single_turn", 1, "calls.jsonl").iter().all(|call| call["reward"] == 1.0), "the expert's own words");
}

/// Every file in `experiments/` is a valid experiment whose name is that of the file.
#[test]
fn the_experiments_of_the_repository_can_be_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let spec = milepost_improve::experiment::Spec::load(&file, &milepost::improve_host::ProgramExperiments::default())
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(Some(&spec.name[..]), file.file_stem().and_then(|name| name.to_str()));
    }
}
