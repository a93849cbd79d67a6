//! Records of running browsers, and their profile directories. A later process uses the records to find the browsers that a crashed one
//! left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};

use super::marked::kill_all;
use super::procfs::{boot_id, is_alive, pid_namespace, start_time};

/// The prefix of the names of profile directories that are removed with their browser.
const PROFILE_PREFIX: &str = "milepost-browser-";

/// The record of a running browser, a JSON file in the state directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    owner_pid: u32,
    owner_start: u64,
    namespace: String,
    boot: String,
    pub(super) driver_pgid: Option<u32>,
    pub(super) chromium_pid: Option<u32>,
    pub(super) profile: PathBuf,
    /// Whether the profile is kept when the browser ends.
    #[serde(default)]
    pub(super) kept: bool,
}

impl Record {
    /// A record of a browser that this process owns.
    pub(super) fn new(profile: PathBuf, kept: bool) -> Self {
        Self {
            owner_pid: std::process::id(),
            owner_start: start_time(std::process::id()).unwrap_or(0),
            namespace: pid_namespace(),
            boot: boot_id(),
            driver_pgid: None,
            chromium_pid: None,
            profile,
            kept,
        }
    }

    /// Writes the record to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Environment(format!("cannot write {}: {error}", file.display())))?;
        let draft = file.with_extension("new");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, file)).map_err(|error| {
            Error::Environment(format!("cannot write {}: {error}; set `browser.state_dir` to a directory with room", file.display()))
        })
    }

    /// Removes the file of the record, and the profile unless it is kept.
    pub(super) fn remove(&self, file: &Path) {
        // A dying process may still write a file into the profile, so removing it is tried several times.
        for _ in 0..if self.kept { 0 } else { 5 } {
            match std::fs::remove_dir_all(&self.profile) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        let _ = std::fs::remove_file(file);
    }
}

/// Creates the profile directory: below `kept` where one is given, else a new one in the directory for temporary files.
///
/// # Errors
/// The directory cannot be created.
pub(super) fn create_profile(kept: Option<&Path>) -> Result<PathBuf> {
    let cannot = |what: &str, error: std::io::Error| Error::Environment(format!("cannot create a profile directory in {what}: {error}"));
    if let Some(kept) = kept {
        // All kept profiles have the same last name, so that no profile's path is the beginning of another's (paths are the marks of
        // processes).
        let kept = &kept.join("chromium");
        let made = std::fs::create_dir_all(kept).and_then(|()| kept.canonicalize());
        return made.map_err(|error| cannot(&kept.display().to_string(), error));
    }
    let fresh = tempfile::Builder::new().prefix(PROFILE_PREFIX).tempdir();
    let parent = || format!("{} (set TMPDIR to a directory with room)", std::env::temp_dir().display());
    fresh.map(tempfile::TempDir::keep).map_err(|error| cannot(&parent(), error))
}

/// Ends the browsers whose owners are gone: kills the processes that are left and removes the profiles that are not kept. Returns the
/// number of these browsers. A browser whose owner lives, or whose owner is in another PID namespace where this process cannot see it, is
/// left alone.
///
/// # Errors
/// The directory cannot be read.
pub fn reap_orphans(dir: &Path) -> std::io::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut reaped = 0;
    for file in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let Some(record) = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
            continue;
        };
        let rebooted = record.boot != boot_id();
        if !rebooted && (record.namespace != pid_namespace() || is_alive(record.owner_pid, record.owner_start)) {
            continue;
        }
        let named_by_us = record.profile.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROFILE_PREFIX));
        if !named_by_us && !record.kept {
            tracing::warn!(file = %file.display(), "this record of a browser names a profile that is not ours; delete the file");
            continue;
        }
        if !rebooted {
            kill_all(&record.profile);
        }
        record.remove(&file);
        reaped += 1;
    }
    Ok(reaped)
}
