//! Where runs lie beside each other, and what they say together.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use milepost_runtime::Error;

use crate::config::Config;

/// Where runs lie.
pub fn place(config: &Config) -> PathBuf {
    config.improve.directory.clone().unwrap_or_else(|| config.episodes.directory.join("improve"))
}

/// A run's directory.
pub fn run(runs: &Path, number: usize) -> PathBuf {
    runs.join(format!("run-{number}"))
}

/// The runs that there are, by number; none where there is no such directory yet.
///
/// # Errors
/// A directory that cannot be read.
pub fn numbers(runs: &Path) -> Result<Vec<usize>> {
    let entries = match std::fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", runs.display())),
    };
    let mut numbers: Vec<usize> = entries.flatten().filter_map(|entry| number(&entry.path())).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn number(run: &Path) -> Option<usize> {
    run.file_name()?.to_str()?.strip_prefix("run-")?.parse().ok()
}

/// The rounds of all runs before this one: each has had its own validation tasks in the gate.
///
/// # Errors
/// A directory that cannot be read.
pub fn rounds_before(directory: &Path) -> Result<usize> {
    let (Some(runs), Some(own)) = (directory.parent(), number(directory)) else { return Ok(0) };
    let earlier = numbers(runs)?.into_iter().filter(|number| *number < own);
    Ok(earlier.map(|number| rounds(&run(runs, number))).sum())
}

/// The rounds of a run; none where its state is not there or damaged, which is for whoever goes on with it to complain of.
fn rounds(run: &Path) -> usize {
    let state = std::fs::read(run.join("state.json")).ok();
    let state: Option<serde_json::Value> = state.and_then(|text| serde_json::from_slice(&text).ok());
    state.and_then(|state| Some(state["rounds"].as_array()?.len())).unwrap_or(0)
}

/// The latest run's directory, or that of a new one.
///
/// # Errors
/// No run to go on with; a directory that cannot be made.
pub fn latest_or_new(runs: &Path, resume: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(runs).with_context(|| format!("{} cannot be made", runs.display()))?;
    let latest = numbers(runs)?.last().copied();
    match (latest, resume) {
        (Some(latest), true) => Ok(run(runs, latest)),
        (None, true) => bail!(Error::BadInput(format!("there is no run in {} to go on with; leave out --resume", runs.display()))),
        (latest, false) => {
            let new = run(runs, latest.map_or(1, |latest| latest + 1));
            std::fs::create_dir(&new).with_context(|| format!("{} cannot be made", new.display()))?;
            Ok(new)
        }
    }
}

/// When the last run wrote something down; the beginning of time where there was none, so that all episodes so far are new.
///
/// # Errors
/// A directory that cannot be read.
pub fn last(runs: &Path) -> Result<DateTime<Utc>> {
    let states = numbers(runs)?.into_iter().map(|number| run(runs, number).join("state.json"));
    let written = states.filter_map(|state| std::fs::metadata(state).ok()?.modified().ok());
    Ok(written.max().map_or(DateTime::UNIX_EPOCH, DateTime::from))
}

#[cfg(test)]
mod tests {
    use milepost_learners::improve::{Round, State};

    use super::*;

    #[test]
    fn runs_know_of_those_before_them() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("improve");
        assert_eq!((numbers(&runs).unwrap(), last(&runs).unwrap()), (Vec::new(), DateTime::UNIX_EPOCH));
        let begun = Utc::now() - chrono::Duration::seconds(2);
        for (number, rounds) in [(1, 2), (2, 1), (10, 4)] {
            State { rounds: vec![Round::default(); rounds] }.save(&run(&runs, number)).unwrap();
        }
        assert_eq!(numbers(&runs).unwrap(), [1, 2, 10]);
        assert_eq!([1, 2, 10].map(|number| rounds_before(&run(&runs, number)).unwrap()), [0, 2, 3]);
        assert!(last(&runs).unwrap() > begun);
    }
}
