//! Checkpoints of a supervised run: the trainer's directory and the run's status.

use std::path::Path;

use super::Status;
use crate::{Error, Result, Trainer, files};

const STATUS: &str = "sft.json";

/// Writes model, optimiser and status; the status comes last.
pub(super) fn save(trainer: &Trainer, status: &Status, directory: &Path) -> Result<()> {
    trainer.save(directory)?;
    let path = directory.join(STATUS);
    let text = serde_json::to_string_pretty(&finite(status)).map_err(Error::json(&path))?;
    files::replace(&path, text.as_bytes())
}

/// Reads the checkpoint of a directory into the trainer; `None` if there is none.
pub(super) fn load(trainer: &mut Trainer, directory: &Path) -> Result<Option<Status>> {
    let path = directory.join(STATUS);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let status = serde_json::from_str(&text).map_err(Error::json(&path))?;
    trainer.restore(directory)?;
    Ok(Some(status))
}

/// JSON has no NaN, which is what `exact` is when nothing could be judged.
pub(super) fn finite(status: &Status) -> Status {
    let or_zero = |x: f64| if x.is_finite() { x } else { 0.0 };
    Status { exact: or_zero(status.exact), loss: or_zero(status.loss), ..status.clone() }
}
