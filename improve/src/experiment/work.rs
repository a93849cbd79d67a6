//! The files of an experiment's work: one directory per arm and seed, which records its provenance and may start as a copy of another arm's.

use std::path::{Path, PathBuf};

use milepost_learners::files;

use super::spec::{Arm, Spec};
use super::table::Trained;
use crate::error::{Error, Result, ResultExt};
use crate::host::EnvironmentKind;
use crate::rounds::Round;
use crate::stages::{CALLS, CANDIDATE, COLLECTED, round_directory};

/// The file of an arm's test episodes.
pub(super) const TESTED: &str = "tested.jsonl";
/// The file with the provenance of an arm's work.
const PROVENANCE: &str = "arm.json";
/// The file of an arm's training rounds.
const TRAINED: &str = "trained.json";

/// Returns the name of the file with an arm's results in the states of the expert.
pub(super) fn matched_file(spec: &Spec) -> String {
    format!("matched-{}.json", spec.expert_states)
}

/// Returns whether all test tasks of the experiment have been played.
pub(super) fn is_tested(spec: &Spec, directory: &Path) -> bool {
    let played = std::fs::read_to_string(directory.join(TESTED)).map_or(0, |text| text.lines().count());
    played == spec.levels.len() * spec.test
}

/// The inputs that all arms have in common besides the experiment's file.
pub(super) struct Origin {
    /// The id of the generation that all arms start from.
    pub(super) model: String,
    /// Where episodes run.
    pub(super) environment: EnvironmentKind,
}

/// Returns the provenance of an arm's work: everything that it depends on besides its seed, including the provenance of the arms that it
/// continues or copies.
pub(super) fn provenance(spec: &Spec, arm: &Arm, origin: &Origin) -> Result<serde_json::Value> {
    // The work does not depend on the arm that it is compared with.
    let own = Arm { against: None, ..arm.clone() };
    let parents = spec.predecessor(arm).into_iter().chain(spec.arms.iter().find(|other| arm.episodes_of.as_ref() == Some(&other.name)));
    let parents = parents.map(|parent| provenance(spec, parent, origin)).collect::<Result<Vec<_>>>()?;
    let common = (&spec.start, &origin.model, origin.environment, spec.split, &spec.levels, &spec.templates, &spec.settings);
    Ok(serde_json::to_value((common, own, parents))?)
}

/// Refuses work with another provenance than the experiment's file has now, because its results would belong to neither.
pub(super) fn check_provenance(spec: &Spec, arm: &Arm, directory: &Path, origin: &Origin) -> Result<()> {
    let now = provenance(spec, arm, origin)?;
    let problem = match std::fs::read(directory.join(PROVENANCE)) {
        Ok(bytes) if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|then| then == now) => return Ok(()),
        Ok(_) => "the work of other settings than the experiment's file has now, or of another version of this program".to_owned(),
        Err(_) if directory.exists() => {
            format!("work of which nothing says what it was made with: {PROVENANCE} is missing or cannot be read")
        }
        Err(_) => return Ok(()),
    };
    let fix = format!("remove that directory to run arm {} again, or give the experiment another name", arm.name);
    Err(Error::bad_input(format!("{} is {problem}; {fix}", directory.display())))
}

/// Records the result of a training round.
pub(super) fn record_round(arm: &Arm, seed: u64, round: &Round, directory: &Path) -> Result<()> {
    let mut all = trained(directory)?;
    all.retain(|one| one.round != round.number);
    let calls = round.update.as_ref().map_or(0, |update| update.calls);
    let Round { number, episodes, solved, note, .. } = round.clone();
    all.push(Trained { arm: arm.name.clone(), seed, round: number, episodes, solved, calls, note });
    Ok(files::replace(&directory.join(TRAINED), serde_json::to_string(&all)?.as_bytes())?)
}

/// Reads the results of an arm's training rounds so far, including copied ones.
pub(super) fn trained(directory: &Path) -> Result<Vec<Trained>> {
    match std::fs::read_to_string(directory.join(TRAINED)) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", directory.join(TRAINED).display())),
        Err(_) => Ok(Vec::new()),
    }
}

/// Copies the work of another arm except for its test results; returns the generation that the arm ended with.
pub(super) fn copy_arm(from: &Path, to: &Path, provenance: &str, rounds: usize) -> Result<Option<String>> {
    let is_matched = |path: &Path| path.to_str().is_some_and(|name| name.starts_with("matched-"));
    let wanted = |path: &Path| ![TESTED, PROVENANCE].iter().any(|own| path == Path::new(own)) && !is_matched(path);
    make_directory(to, provenance, |to| copy(from, to, &wanted))?;
    Ok(last_candidate(to, rounds))
}

/// Returns the generation that an arm ended with. A round that could not train left no candidate, so that the one before it counts.
pub(super) fn last_candidate(directory: &Path, rounds: usize) -> Option<String> {
    (1..=rounds).rev().find_map(|round| std::fs::read_to_string(round_directory(directory, round).join(CANDIDATE)).ok())
}

/// Copies the episodes of another arm's first round, but nothing that was trained on them.
pub(super) fn copy_episodes(from: &Path, to: &Path, provenance: &str) -> Result<()> {
    let first = round_directory(Path::new(""), 1);
    let wanted = |path: &Path| match path.strip_prefix(&first) {
        Ok(inner) => inner.as_os_str().is_empty() || [COLLECTED, CALLS].iter().any(|name| inner == Path::new(name)),
        Err(_) => path.components().count() == 1 && path.to_str().is_some_and(|name| name.starts_with("episodes.db")),
    };
    make_directory(to, provenance, |to| copy(from, to, &wanted))
}

/// Creates an arm's directory in one step, so that an existing directory is complete, and records the provenance of its work. An arm that is
/// resumed after a kill keeps its directory.
pub(super) fn make_directory(whole: &Path, provenance: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
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
    files::replace(&partial.join(PROVENANCE), provenance.as_bytes())?;
    std::fs::rename(&partial, whole).with_context(|| format!("{} cannot be made", whole.display()))
}

/// Copies the wanted files of a directory; `wanted` takes their paths relative to it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_copies_the_work_of_another_but_not_its_test_results() {
        let work = tempfile::tempdir().unwrap();
        let (from, to) = (work.path().join("a-1"), work.path().join("b-1"));
        std::fs::create_dir_all(round_directory(&from, 1)).unwrap();
        std::fs::create_dir_all(round_directory(&from, 2)).unwrap();
        std::fs::create_dir_all(from.join("adapters/x")).unwrap();
        for (file, text) in [("round-1/candidate", "x"), ("adapters/x/weights", "w"), (TESTED, "{}")] {
            std::fs::write(from.join(file), text).unwrap();
        }
        assert_eq!(copy_arm(&from, &to, "made", 2).unwrap().as_deref(), Some("x"), "round 2 taught nothing");
        assert_eq!(std::fs::read_to_string(to.join("adapters/x/weights")).unwrap(), "w");
        assert!(!to.join(TESTED).exists() && std::fs::read_to_string(to.join(PROVENANCE)).unwrap() == "made");
        assert!(copy_arm(&work.path().join("c-1"), &work.path().join("d-1"), "made", 1).is_err() && !work.path().join("d-1").exists());
    }

    #[test]
    fn an_arm_copies_episodes_and_nothing_that_was_trained_on_them() {
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
        copy_episodes(&from, &to, "made").unwrap();
        let there: Vec<bool> = files.iter().chain(&of_round).map(|file| to.join(file).exists()).collect();
        assert_eq!(there, [true, true, false, false, true, false, false, false]);
        assert!(!round_directory(&to, 2).exists());
    }

    #[test]
    fn work_with_other_settings_is_refused_and_another_number_of_tests_is_played() {
        let work = tempfile::tempdir().unwrap();
        let directory = work.path().join("b-1");
        let spec = |test: usize, settings: &str| -> Spec {
            let arms = format!("[{{name: a}}, {{name: b, rounds: 1, settings: {settings}}}]");
            serde_norway::from_str(&format!("{{name: x, claim: y, start: m, levels: [medium], test: {test}, seeds: [1], arms: {arms}}}"))
                .unwrap()
        };
        let origin = |model: &str| Origin { model: model.into(), environment: EnvironmentKind::Plain };
        let check = |spec: &Spec, arm: &Arm, directory: &Path| check_provenance(spec, arm, directory, &origin("m"));
        let first = spec(2, "{improve: {tasks: 4}}");
        check(&first, &first.arms[1], &directory).unwrap();
        assert!(!is_tested(&first, &directory));
        std::fs::create_dir_all(&directory).unwrap();
        let unknown = check(&first, &first.arms[1], &directory).unwrap_err().to_string();
        assert!(unknown.contains(PROVENANCE) && unknown.contains("b-1"), "{unknown}");
        std::fs::write(directory.join(PROVENANCE), provenance(&first, &first.arms[1], &origin("m")).unwrap().to_string()).unwrap();
        std::fs::write(directory.join(TESTED), "{}\n{}\n").unwrap();
        check(&first, &first.arms[1], &directory).unwrap();
        assert!(is_tested(&first, &directory));
        let more = spec(3, "{improve: {tasks: 4}}");
        check(&more, &more.arms[1], &directory).unwrap();
        assert!(!is_tested(&more, &directory));
        // The provenance includes the model, and the settings of the predecessor.
        assert!(check_provenance(&first, &first.arms[1], &directory, &origin("n")).is_err());
        let mut before = first.clone();
        before.arms[1].after = Some("a".into());
        let then = provenance(&before, &before.arms[1], &origin("m")).unwrap();
        before.arms[0].settings = serde_json::json!({"improve": {"tasks": 9}});
        assert_ne!(provenance(&before, &before.arms[1], &origin("m")).unwrap(), then);
        let other = spec(2, "{improve: {tasks: 5}}");
        let error = check(&other, &other.arms[1], &directory).unwrap_err().to_string();
        assert!(error.contains("b-1") && error.contains("arm b") && error.contains("remove that directory"), "{error}");
    }
}
