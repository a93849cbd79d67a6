//! The directories of runs, `run-1`, `run-2` and so on beside each other.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::error::{Error, Result, ResultExt};

/// Returns the directory of the run with this number.
pub fn run_directory(runs: &Path, number: usize) -> PathBuf {
    runs.join(format!("run-{number}"))
}

/// Lists the numbers of all runs in ascending order; none where the directory does not exist yet.
///
/// # Errors
/// The directory cannot be read.
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

/// Counts the rounds of all runs before this one. Each has had its own validation tasks in the gate, which later runs must not reuse.
///
/// # Errors
/// The directory cannot be read.
pub fn rounds_before(directory: &Path) -> Result<usize> {
    let (Some(runs), Some(own)) = (directory.parent(), number(directory)) else { return Ok(0) };
    let earlier = numbers(runs)?.into_iter().filter(|number| *number < own);
    Ok(earlier.map(|number| rounds(&run_directory(runs, number))).sum())
}

/// Counts the rounds of a run. A state that is missing or damaged counts as none; the error is reported when that run is resumed.
fn rounds(run: &Path) -> usize {
    let state = std::fs::read(run.join("state.json")).ok();
    let state: Option<serde_json::Value> = state.and_then(|text| serde_json::from_slice(&text).ok());
    state.and_then(|state| Some(state["rounds"].as_array()?.len())).unwrap_or(0)
}

/// Returns the directory of the latest run to resume, or creates the directory of a new run.
///
/// # Errors
/// There is no run to resume, or the directory cannot be created.
pub fn latest_or_new(runs: &Path, resume: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(runs).with_context(|| format!("{} cannot be made", runs.display()))?;
    let latest = numbers(runs)?.last().copied();
    match (latest, resume) {
        (Some(latest), true) => Ok(run_directory(runs, latest)),
        (None, true) => Err(Error::bad_input(format!("there is no run in {} to go on with; leave out --resume", runs.display()))),
        (latest, false) => {
            let new = run_directory(runs, latest.map_or(1, |latest| latest + 1));
            std::fs::create_dir(&new).with_context(|| format!("{} cannot be made", new.display()))?;
            Ok(new)
        }
    }
}

/// Returns when a run last wrote its state. Without any run this is the Unix epoch, so that all episodes so far count as new.
///
/// # Errors
/// The directory cannot be read.
pub fn last_written(runs: &Path) -> Result<DateTime<Utc>> {
    let states = numbers(runs)?.into_iter().map(|number| run_directory(runs, number).join("state.json"));
    let written = states.filter_map(|state| std::fs::metadata(state).ok()?.modified().ok());
    Ok(written.max().map_or(DateTime::UNIX_EPOCH, DateTime::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::{Round, State};

    #[test]
    fn the_rounds_of_earlier_runs_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("improve");
        assert_eq!((numbers(&runs).unwrap(), last_written(&runs).unwrap()), (Vec::new(), DateTime::UNIX_EPOCH));
        let begun = Utc::now() - chrono::Duration::seconds(2);
        for (number, rounds) in [(1, 2), (2, 1), (10, 4)] {
            State { rounds: vec![Round::default(); rounds] }.save(&run_directory(&runs, number)).unwrap();
        }
        assert_eq!(numbers(&runs).unwrap(), [1, 2, 10]);
        assert_eq!([1, 2, 10].map(|number| rounds_before(&run_directory(&runs, number)).unwrap()), [0, 2, 3]);
        assert!(last_written(&runs).unwrap() > begun);
    }
}
