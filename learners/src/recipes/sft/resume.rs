//! Checkpoints of a supervised run: one directory per checkpoint, which appears only when it is complete.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::feed::FeedPosition;
use super::status::Status;
use crate::{Error, Result, Trainer, files};

const CHECKPOINTS: &str = "checkpoints";
const STATUS: &str = "sft.json";
const POSITION: &str = "feed.json";

/// Writes the trainer, the status and the feed's position into a temporary directory and then renames it, so that a process that is killed
/// leaves the previous checkpoint intact. Older checkpoints are removed.
pub(super) fn save(trainer: &Trainer, status: &Status, position: &FeedPosition, directory: &Path) -> Result<()> {
    let all = directory.join(CHECKPOINTS);
    let (partial, whole) = (all.join("partial"), all.join(format!("step-{:09}", status.step)));
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(Error::io(&partial))?;
    }
    std::fs::create_dir_all(&partial).map_err(Error::io(&partial))?;
    trainer.save(&partial)?;
    write(&partial.join(STATUS), &status.finite())?;
    write(&partial.join(POSITION), position)?;
    if whole.exists() {
        std::fs::remove_dir_all(&whole).map_err(Error::io(&whole))?;
    }
    std::fs::rename(&partial, &whole).map_err(Error::io(&whole))?;
    for old in finished(directory)?.into_iter().filter(|path| *path != whole) {
        std::fs::remove_dir_all(&old).map_err(Error::io(&old))?;
    }
    Ok(())
}

/// Loads the latest checkpoint of a run into the trainer; `None` if there is none.
pub(super) fn load(trainer: &mut Trainer, directory: &Path) -> Result<Option<(Status, FeedPosition)>> {
    let Some(latest) = finished(directory)?.pop() else { return Ok(None) };
    trainer.restore(&latest)?;
    Ok(Some((read(&latest.join(STATUS))?, read(&latest.join(POSITION))?)))
}

/// Returns the complete checkpoints of a run, oldest first.
fn finished(directory: &Path) -> Result<Vec<PathBuf>> {
    let all = directory.join(CHECKPOINTS);
    if !all.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&all).map_err(Error::io(&all))?.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-"))).collect();
    paths.sort();
    Ok(paths)
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(Error::json(path))?;
    files::replace(path, text.as_bytes())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(Error::json(path))
}
