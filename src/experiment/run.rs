//! Runs what is not there yet, and writes results, table and figure.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use milepost_learners::files;
use milepost_learners::improve::{Failure, Round, Workshop};
use milepost_planners::Prompts;
use milepost_runtime::{DirectoryRegistry, Error, Generation, SqliteStore};
use tokio::sync::watch;

use super::figure;
use super::spec::{Arm, Spec};
use super::table::{Matched, Results, Tested, Trained};
use crate::cli::PlaceArg;
use crate::config::{AdapterChoice, Config};
use crate::improve::tasks::{measuring, templates};
use crate::improve::workshop::{CALLS, CANDIDATE, COLLECTED, SuiteWorkshop, round_directory};
use crate::serving;
use crate::wiring::{self, Mind};

/// How an experiment is run.
pub struct Running {
    /// Where its work lies, by name.
    pub work: PathBuf,
    /// Where results go.
    pub results: PathBuf,
    /// Browser, or the plain reader.
    pub environment: PlaceArg,
    /// Cancels.
    pub cancel: watch::Receiver<bool>,
}

/// Runs every arm with every seed that is not done, then writes `NAME.json`, `NAME.md` and `NAME.svg`.
///
/// # Errors
/// What ends an arm; what was measured stays, and the next call goes on from it.
pub async fn run(spec: &Spec, running: &Running) -> Result<Results> {
    let work = running.work.join(&spec.name);
    std::fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
    let _alone = DirectoryRegistry::new(&work).lock_updater()?;
    let start = spec.config(&spec.arms[0], 0, 0, &work)?;
    let prompts = Prompts::new(&start.policy)?.hash().to_owned();
    let origin = Origin { model: Generation { prompts, ..serving::base(&start)? }.id(), environment: running.environment };
    for arm in &spec.arms {
        // Without training nothing depends on the seed: all is greedy.
        let seeds = if arm.rounds == 0 { &spec.seeds[..1] } else { &spec.seeds[..] };
        for seed in seeds {
            let directory = work.join(format!("{}-{seed}", arm.name));
            recognise(spec, arm, &directory, &origin)?;
            if !is_tested(spec, &directory) {
                one(spec, arm, *seed, &directory, &origin, running).await.with_context(|| format!("arm {} with seed {seed}", arm.name))?;
            }
            if spec.expert_states > 0 && !directory.join(matched_file(spec)).is_file() {
                ask(spec, arm, *seed, &directory, running).await.with_context(|| format!("arm {} with seed {seed}", arm.name))?;
            }
            eprintln!("{}: arm {}, seed {seed}: done", spec.name, arm.name);
            // What is not finished is looked at here, and published nowhere.
            write(spec, &work, &work)?;
        }
    }
    write(spec, &work, &running.results)
}

const TESTED: &str = "tested.jsonl";
const MADE_OF: &str = "arm.json";
const TRAINED: &str = "trained.json";

/// The file of an arm's answers in the states of so many experts.
fn matched_file(spec: &Spec) -> String {
    format!("matched-{}.json", spec.expert_states)
}

/// Whether as many test tasks were played as the experiment asks for.
fn is_tested(spec: &Spec, directory: &Path) -> bool {
    let played = std::fs::read_to_string(directory.join(TESTED)).map_or(0, |text| text.lines().count());
    played == spec.levels.len() * spec.test
}

/// What all arms have in common beside the file.
struct Origin {
    /// Id of the start: its weights and prompts.
    model: String,
    environment: PlaceArg,
}

/// What an arm's work depends on, beside its seed: that of the arms that it goes on from is part of it.
fn made_of(spec: &Spec, arm: &Arm, origin: &Origin) -> Result<serde_json::Value> {
    // What it is compared with changes nothing of it.
    let own = Arm { against: None, ..arm.clone() };
    let parents = spec.before(arm).into_iter().chain(spec.arms.iter().find(|other| arm.episodes_of.as_ref() == Some(&other.name)));
    let parents = parents.map(|parent| made_of(spec, parent, origin)).collect::<Result<Vec<_>>>()?;
    let common = (&spec.start, &origin.model, origin.environment, spec.split, &spec.levels, &spec.templates, &spec.settings);
    Ok(serde_json::to_value((common, own, parents))?)
}

/// Refuses work that was made from other settings than the file now has: figures would be of neither.
fn recognise(spec: &Spec, arm: &Arm, directory: &Path, origin: &Origin) -> Result<()> {
    let now = made_of(spec, arm, origin)?;
    let problem = match std::fs::read(directory.join(MADE_OF)) {
        Ok(bytes) if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|then| then == now) => return Ok(()),
        Ok(_) => "the work of other settings than the experiment's file has now, or of another version of this program".to_owned(),
        Err(_) if directory.exists() => format!("work of which nothing says what it was made with: {MADE_OF} is missing or cannot be read"),
        Err(_) => return Ok(()),
    };
    let fix = format!("remove that directory to run arm {} again, or give the experiment another name", arm.name);
    bail!(Error::BadInput(format!("{} is {problem}; {fix}", directory.display())))
}

/// One arm with one seed: rounds of training without a gate, then the test tasks.
async fn one(spec: &Spec, arm: &Arm, seed: u64, directory: &Path, origin: &Origin, running: &Running) -> Result<()> {
    let (mut serving, mut done) = (None, 0);
    let made_of = made_of(spec, arm, origin)?.to_string();
    if let Some(before) = spec.before(arm) {
        serving = take_over(&directory.with_file_name(format!("{}-{seed}", before.name)), directory, &made_of, before.rounds)?;
        done = before.rounds;
    } else if let Some(other) = &arm.episodes_of {
        take_episodes(&directory.with_file_name(format!("{other}-{seed}")), directory, &made_of)?;
    } else {
        make_whole(directory, &made_of, |_| Ok(()))?;
    }
    for number in done + 1..=arm.rounds {
        let config = spec.config(arm, seed, number, directory)?;
        let store = wiring::store(&config).await?;
        let mut workshop = workshop(&config, &store, serving.clone(), directory, running).await?;
        let mut round = Round { number, incumbent: workshop.serving(), ..Round::default() };
        (round.episodes, round.solved) = go_on(workshop.collect(&round).await)?.unwrap_or_default();
        workshop.tell(&round);
        // A round that teaches nothing leaves the arm where it was: that is a result, not an error.
        match workshop.update(&round).await {
            Ok((candidate, report)) => {
                (round.candidate, round.update) = (Some(candidate.clone()), Some(report));
                serving = Some(candidate);
            }
            Err(Failure::Candidate(note)) => round.note = Some(note),
            Err(Failure::Workshop(error)) => return Err(error),
        }
        workshop.tell(&round);
        drop(workshop);
        store.close().await;
        note(arm, seed, &round, directory)?;
    }
    test(spec, arm, seed, serving, directory, running).await
}

/// Writes down what a round of training did.
fn note(arm: &Arm, seed: u64, round: &Round, directory: &Path) -> Result<()> {
    let mut all = trained(directory)?;
    all.retain(|one| one.round != round.number);
    let calls = round.update.as_ref().map_or(0, |update| update.calls);
    let Round { number, episodes, solved, note, .. } = round.clone();
    all.push(Trained { arm: arm.name.clone(), seed, round: number, episodes, solved, calls, note });
    Ok(files::replace(&directory.join(TRAINED), serde_json::to_string(&all)?.as_bytes())?)
}

/// What an arm's rounds did so far, those that it took over included.
fn trained(directory: &Path) -> Result<Vec<Trained>> {
    match std::fs::read_to_string(directory.join(TRAINED)) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", directory.join(TRAINED).display())),
        Err(_) => Ok(Vec::new()),
    }
}

/// Copies what another arm did, all but its test, and gives the generation that it came to.
fn take_over(from: &Path, to: &Path, made_of: &str, rounds: usize) -> Result<Option<String>> {
    let asked = |path: &Path| path.to_str().is_some_and(|name| name.starts_with("matched-"));
    let wanted = |path: &Path| ![TESTED, MADE_OF].iter().any(|own| path == Path::new(own)) && !asked(path);
    make_whole(to, made_of, |to| copy(from, to, &wanted))?;
    Ok(last_candidate(to, rounds))
}

/// The generation that an arm came to: a round that taught nothing left no candidate, and the one before it stands.
fn last_candidate(directory: &Path, rounds: usize) -> Option<String> {
    (1..=rounds).rev().find_map(|round| std::fs::read_to_string(round_directory(directory, round).join(CANDIDATE)).ok())
}

/// Asks an arm in the expert's states, level by level.
async fn ask(spec: &Spec, arm: &Arm, seed: u64, directory: &Path, running: &Running) -> Result<()> {
    let config = spec.config(arm, seed, 0, directory)?;
    let store = wiring::store(&config).await?;
    let workshop = workshop(&config, &store, last_candidate(directory, arm.rounds), directory, running).await?;
    let mut matched = Vec::new();
    for level in &spec.levels {
        let (right, all) = workshop.matched(measuring(&spec.templates(level)?, spec.split, 0, spec.expert_states)).await?;
        matched.push(Matched { arm: arm.name.clone(), level: level.clone(), right: right as u64, all: all as u64 });
    }
    drop(workshop);
    store.close().await;
    Ok(files::replace(&directory.join(matched_file(spec)), &serde_json::to_vec(&matched)?)?)
}

/// Copies the episodes of another arm's first round, and nothing that was learned from them.
fn take_episodes(from: &Path, to: &Path, made_of: &str) -> Result<()> {
    let first = round_directory(Path::new(""), 1);
    let wanted = |path: &Path| match path.strip_prefix(&first) {
        Ok(inner) => inner.as_os_str().is_empty() || [COLLECTED, CALLS].iter().any(|name| inner == Path::new(name)),
        Err(_) => path.components().count() == 1 && path.to_str().is_some_and(|name| name.starts_with("episodes.db")),
    };
    make_whole(to, made_of, |to| copy(from, to, &wanted))
}

/// Makes an arm's directory, which is whole once it is there, and says what its work is made of; an arm that goes on after a kill has it, with
/// what it did since.
fn make_whole(whole: &Path, made_of: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if whole.exists() {
        return Ok(());
    }
    let mut partial = whole.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("{} cannot be removed", partial.display()))?;
    }
    std::fs::create_dir_all(&partial).with_context(|| format!("{} cannot be made", partial.display()))?;
    fill(&partial)?;
    files::replace(&partial.join(MADE_OF), made_of.as_bytes())?;
    std::fs::rename(&partial, whole).with_context(|| format!("{} cannot be made", whole.display()))
}

/// Copies a directory, as far as it is wanted (paths are given from its root).
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    std::fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        std::fs::create_dir_all(to.join(&inner))?;
        for entry in std::fs::read_dir(from.join(&inner)).with_context(|| format!("{} cannot be read", from.display()))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if !wanted(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                std::fs::copy(entry.path(), to.join(&path)).with_context(|| format!("{} cannot be written", to.join(&path).display()))?;
            }
        }
    }
    Ok(())
}

/// The hands of an arm, with this generation in service.
async fn workshop<'a>(
    config: &'a Config,
    store: &'a SqliteStore,
    serving: Option<String>,
    directory: &Path,
    running: &Running,
) -> Result<SuiteWorkshop<'a>> {
    let adapter = serving.map_or(AdapterChoice::None, AdapterChoice::Named);
    Ok(SuiteWorkshop {
        mind: Mind::load(&Config { adapter, ..config.clone() }).await?,
        templates: templates(&config.improve.levels, &config.improve.templates)?,
        config,
        store,
        registry: wiring::registry(config),
        environment: running.environment,
        own: false,
        directory: directory.to_owned(),
        gated: 0,
        cancel: running.cancel.clone(),
        verbose: true,
    })
}

fn go_on<T>(outcome: std::result::Result<T, Failure<anyhow::Error>>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Candidate(_)) => Ok(None),
        Err(Failure::Workshop(error)) => Err(error),
    }
}

/// Plays the test tasks of each level, greedily.
async fn test(spec: &Spec, arm: &Arm, seed: u64, serving: Option<String>, directory: &Path, running: &Running) -> Result<()> {
    let config = spec.config(arm, seed, 0, directory)?;
    let store = wiring::store(&config).await?;
    let workshop = workshop(&config, &store, serving, directory, running).await?;
    let mut lines = String::new();
    for level in &spec.levels {
        let assignments = measuring(&spec.templates(level)?, spec.split, 0, spec.test);
        for (task, ended) in workshop.measure(&workshop.mind, &assignments).await?.into_iter().enumerate() {
            let (solved, complete, actions) = (ended.solved, ended.complete, ended.actions);
            let tested = Tested { arm: arm.name.clone(), seed, level: level.clone(), task, solved, complete, actions };
            lines.push_str(&(serde_json::to_string(&tested)? + "\n"));
        }
    }
    drop(workshop);
    // Another arm may copy it.
    store.close().await;
    Ok(files::replace(&directory.join(TESTED), lines.as_bytes())?)
}

fn write(spec: &Spec, work: &Path, results: &Path) -> Result<Results> {
    let (mut tested, mut matched, mut rounds): (Vec<Tested>, Vec<Matched>, Vec<Trained>) = Default::default();
    for arm in &spec.arms {
        for seed in &spec.seeds {
            let directory = work.join(format!("{}-{seed}", arm.name));
            let Ok(text) = std::fs::read_to_string(directory.join(TESTED)) else { continue };
            tested.extend(text.lines().map(serde_json::from_str).collect::<Result<Vec<Tested>, _>>()?);
            rounds.extend(trained(&directory)?.into_iter().map(|one| Trained { arm: arm.name.clone(), ..one }));
            let Ok(text) = std::fs::read_to_string(directory.join(matched_file(spec))) else { continue };
            matched.extend(serde_json::from_str::<Vec<Matched>>(&text)?);
        }
    }
    let found = Results { trained: rounds, ..Results::of(spec, &tested, &matched) };
    std::fs::create_dir_all(results).with_context(|| format!("{} cannot be made", results.display()))?;
    let path = |ending: &str| results.join(format!("{}.{ending}", spec.name));
    let head = format!("# {}\n\n{}\n\n`milepost experiment experiments/{}.yaml`\n\n", spec.name, spec.claim, spec.name);
    for (path, text) in [
        (path("json"), serde_json::to_string_pretty(&found)?),
        (path("md"), format!("{head}{}", found.table())),
        (path("svg"), figure::draw(&found)),
    ] {
        files::replace(&path, text.as_bytes())?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_takes_over_what_another_did_but_not_its_test() {
        let work = tempfile::tempdir().unwrap();
        let (from, to) = (work.path().join("a-1"), work.path().join("b-1"));
        std::fs::create_dir_all(round_directory(&from, 1)).unwrap();
        std::fs::create_dir_all(round_directory(&from, 2)).unwrap();
        std::fs::create_dir_all(from.join("adapters/x")).unwrap();
        for (file, text) in [("round-1/candidate", "x"), ("adapters/x/weights", "w"), (TESTED, "{}")] {
            std::fs::write(from.join(file), text).unwrap();
        }
        assert_eq!(take_over(&from, &to, "made", 2).unwrap().as_deref(), Some("x"), "round 2 taught nothing");
        assert_eq!(std::fs::read_to_string(to.join("adapters/x/weights")).unwrap(), "w");
        assert!(!to.join(TESTED).exists() && std::fs::read_to_string(to.join(MADE_OF)).unwrap() == "made");
        assert!(take_over(&work.path().join("c-1"), &work.path().join("d-1"), "made", 1).is_err() && !work.path().join("d-1").exists());
    }

    #[test]
    fn an_arm_takes_episodes_and_nothing_that_was_learned() {
        let work = tempfile::tempdir().unwrap();
        let (from, to) = (work.path().join("a-1"), work.path().join("b-1"));
        std::fs::create_dir_all(round_directory(&from, 1).join("update")).unwrap();
        std::fs::create_dir_all(round_directory(&from, 2)).unwrap();
        std::fs::create_dir_all(from.join("adapters/x")).unwrap();
        let first = round_directory(Path::new(""), 1);
        let files = ["episodes.db", "episodes.db-wal", "adapters/x/weights", TESTED].map(PathBuf::from);
        let of_round = [COLLECTED, CANDIDATE, "update.json", "update/report.json"].map(|name| first.join(name));
        for file in files.iter().chain(&of_round) {
            std::fs::write(from.join(file), "x").unwrap();
        }
        take_episodes(&from, &to, "made").unwrap();
        let there: Vec<bool> = files.iter().chain(&of_round).map(|file| to.join(file).exists()).collect();
        assert_eq!(there, [true, true, false, false, true, false, false, false]);
        assert!(!round_directory(&to, 2).exists());
    }

    #[test]
    fn work_of_other_settings_is_refused_and_other_counts_are_played_again() {
        let work = tempfile::tempdir().unwrap();
        let directory = work.path().join("b-1");
        let spec = |test: usize, settings: &str| -> Spec {
            let arms = format!("[{{name: a}}, {{name: b, rounds: 1, settings: {settings}}}]");
            serde_norway::from_str(&format!("{{name: x, claim: y, start: m, levels: [medium], test: {test}, seeds: [1], arms: {arms}}}"))
                .unwrap()
        };
        let origin = |model: &str| Origin { model: model.into(), environment: PlaceArg::Plain };
        let recognise = |spec: &Spec, arm: &Arm, directory: &Path| recognise(spec, arm, directory, &origin("m"));
        let first = spec(2, "{improve: {tasks: 4}}");
        recognise(&first, &first.arms[1], &directory).unwrap();
        assert!(!is_tested(&first, &directory));
        std::fs::create_dir_all(&directory).unwrap();
        let unknown = recognise(&first, &first.arms[1], &directory).unwrap_err().to_string();
        assert!(unknown.contains(MADE_OF) && unknown.contains("b-1"), "{unknown}");
        std::fs::write(directory.join(MADE_OF), made_of(&first, &first.arms[1], &origin("m")).unwrap().to_string()).unwrap();
        std::fs::write(directory.join(TESTED), "{}\n{}\n").unwrap();
        recognise(&first, &first.arms[1], &directory).unwrap();
        assert!(is_tested(&first, &directory));
        let more = spec(3, "{improve: {tasks: 4}}");
        recognise(&more, &more.arms[1], &directory).unwrap();
        assert!(!is_tested(&more, &directory));
        // Another model, or an arm before it that is another.
        assert!(super::recognise(&first, &first.arms[1], &directory, &origin("n")).is_err());
        let mut before = first.clone();
        before.arms[1].after = Some("a".into());
        let then = made_of(&before, &before.arms[1], &origin("m")).unwrap();
        before.arms[0].settings = serde_json::json!({"improve": {"tasks": 9}});
        assert_ne!(made_of(&before, &before.arms[1], &origin("m")).unwrap(), then);
        let other = spec(2, "{improve: {tasks: 5}}");
        let error = recognise(&other, &other.arms[1], &directory).unwrap_err().to_string();
        assert!(error.contains("b-1") && error.contains("arm b") && error.contains("remove that directory"), "{error}");
    }
}
