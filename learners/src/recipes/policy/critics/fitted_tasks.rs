//! The record of the tasks to which critics were fitted.

use std::collections::BTreeSet;
use std::path::Path;

use crate::recipes::policy::rollout::Rollout;
use crate::{Error, Result, files};

/// The file next to the critics that lists the tasks to which they were fitted, in this update or an earlier one.
pub(super) const TASKS: &str = "tasks.json";

/// The tasks to which earlier critics were fitted.
#[derive(Debug)]
pub(super) enum FittedTasks {
    /// There are no earlier critics.
    NoCritics,
    /// The critics were fitted to these tasks.
    Tasks(BTreeSet<String>),
    /// There are critics without a list of tasks, so any task may be one of theirs.
    Unrecorded,
}

impl FittedTasks {
    /// Loads the record of the critics in a directory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(TASKS);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::Tasks(serde_json::from_str(&text).map_err(Error::json(&path))?)),
            // A round that trained nothing leaves no critics at all.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(if directory.join("value").exists() { Self::Unrecorded } else { Self::NoCritics })
            }
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Returns true if critics may have been fitted to this task.
    pub fn contains(&self, task: &str) -> bool {
        match self {
            Self::NoCritics => false,
            Self::Tasks(tasks) => tasks.contains(task),
            Self::Unrecorded => true,
        }
    }

    /// Adds the tasks of these rollouts.
    pub fn extend(&mut self, rollouts: &[Rollout]) {
        let new = rollouts.iter().map(|rollout| rollout.group.clone());
        match self {
            Self::NoCritics => *self = Self::Tasks(new.collect()),
            Self::Tasks(tasks) => tasks.extend(new),
            Self::Unrecorded => {}
        }
    }

    /// Writes the list of tasks to a directory; nothing if the list is not known.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let Self::Tasks(tasks) = self else { return Ok(()) };
        let path = directory.join(TASKS);
        files::replace(&path, serde_json::to_string(tasks).map_err(Error::json(&path))?.as_bytes())
    }
}
