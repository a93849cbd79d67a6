//! `collected.jsonl`: the rewards of a round's episodes, one line each. A line that a kill cut off is dropped.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use milepost_runtime::RewardTerm;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ResultExt};

/// The file in a round's directory that holds its episodes' rewards.
pub const COLLECTED: &str = "collected.jsonl";

/// A training episode with its rewards; a line of `collected.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Collected {
    /// The index of its assignment in the round.
    pub index: usize,
    /// The episode's id.
    pub id: String,
    /// The id of its template.
    pub template: String,
    /// The name of its task: template and seed.
    pub group: String,
    /// Whether it was solved.
    pub solved: bool,
    /// The fraction of the task that was done in the state of each step, and after the last; empty if that is unknown.
    pub progress: Vec<f64>,
    /// The rewards by step; an empty list means that a reward is missing, so that the episode cannot be trained on.
    pub rewards: Vec<f64>,
    /// The reward of the whole episode, which its last call gets.
    #[serde(default)]
    pub whole: f64,
    /// The rewards by name.
    pub terms: Vec<RewardTerm>,
}

/// Reads the episodes that a round has collected so far. A last line that a kill cut off is skipped, and its episode is played again.
///
/// # Errors
/// An earlier line cannot be read.
pub(super) fn read_lines(directory: &Path) -> Result<Vec<Collected>> {
    let path = directory.join(COLLECTED);
    let mut bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    bytes.truncate(whole_lines(&bytes));
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let read = |(index, line): (usize, &[u8])| -> Result<Collected> {
        let problem = || format!("{} line {} cannot be read; remove that line to have its episode played again", path.display(), index + 1);
        serde_json::from_slice(line).with_context(problem)
    };
    lines.map(read).collect()
}

/// Returns the length of the complete lines of a file.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

/// Opens a file for more lines and removes a last one that a kill left incomplete.
pub(super) fn open_lines(path: &Path) -> Result<File> {
    let open = || -> std::io::Result<File> {
        let mut file = File::options().create(true).read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        file.set_len(whole_lines(&bytes) as u64)?;
        Ok(file)
    };
    open().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(index: usize) -> String {
        let one = Collected {
            index,
            id: format!("episode {index}"),
            template: "t".into(),
            group: "t 1".into(),
            solved: true,
            progress: Vec::new(),
            rewards: vec![1.0],
            whole: 0.0,
            terms: Vec::new(),
        };
        serde_json::to_string(&one).unwrap() + "\n"
    }

    fn check_read(directory: &Path, want: &[usize]) {
        let read: Vec<usize> = read_lines(directory).unwrap().iter().map(|one| one.index).collect();
        assert_eq!(read, want);
    }

    #[test]
    fn an_incomplete_last_line_is_removed_before_the_next_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(COLLECTED);
        check_read(directory.path(), &[]);
        // The line is cut within a letter of two bytes, and after a complete value that lacks its line end.
        for torn in [&b"{\"index\": 1, \"id\": \"\xc3"[..], line(1).trim_end().as_bytes()] {
            std::fs::write(&path, [line(0).as_bytes(), torn].concat()).unwrap();
            check_read(directory.path(), &[0]);
            open_lines(&path).unwrap().write_all(line(2).as_bytes()).unwrap();
            check_read(directory.path(), &[0, 2]);
        }
    }

    #[test]
    fn an_unreadable_line_before_the_last_is_an_error_with_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(COLLECTED), line(0) + "{\"index\": 1{\"index\": 2}\n" + &line(3)).unwrap();
        let error = read_lines(directory.path()).unwrap_err().to_string();
        assert!(error.contains(COLLECTED) && error.contains("line 2"), "{error}");
    }
}
