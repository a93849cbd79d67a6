//! Atomic changes of files: whenever the process or the machine stops, a file is either the old one or the new one, never half of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The prefix of the names of unfinished files and directories.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Returns a function that makes the error about a file that could not be processed; `what` is the failed operation, such as "read".
pub(super) fn failed<'a>(path: &'a Path, what: &'a str) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |error| Error::file(path, format!("cannot be {what}: {error}"))
}

/// Reads a JSON file; `None` if there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read")(error)),
    };
    let value = serde_json::from_slice(&text)
        .map_err(|error| Error::file(path, format!("is damaged or of another version: {error}; restore it, or remove its directory")))?;
    Ok(Some(value))
}

/// Replaces a file by a value as JSON. The value is written to a file beside it first, which is then renamed.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error.to_string()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!("{UNFINISHED}{name}"));
    let mut file = File::create(&unfinished).map_err(failed(&unfinished, "made"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed(&unfinished, "written"))?;
    rename(&unfinished, path)
}

/// Renames a file or directory, and syncs the rename to the disk.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(failed(to, "put in its place"))?;
    match to.parent() {
        Some(parent) => sync(parent),
        None => Ok(()),
    }
}

/// Copies the plain files of a directory into another one, which is created if needed, and syncs the copies to the disk.
pub(super) fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(failed(to, "made"))?;
    for path in entries(from)?.into_iter().filter(|path| path.is_file()) {
        let copy = to.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &copy).map_err(failed(&copy, "written"))?;
        sync(&copy)?;
    }
    sync(to)
}

/// Returns the paths of all entries of a directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(failed(directory, "read"))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed(directory, "read"))).collect()
}

/// Whether a file or directory is unfinished, that is, left behind by a process that died.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// Syncs a file or directory to the disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path, "written to the disk"))
}
