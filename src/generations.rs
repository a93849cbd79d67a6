//! Generations as command line and daemon show and change them.

use anyhow::{Result, bail};
use milepost_runtime::registry::{Over, Record, Rollback, Status, follow, read_probes};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Engine, Error};
use serde::Serialize;

/// A generation in a listing.
#[derive(Serialize)]
pub struct Row {
    /// What is known of it.
    #[serde(flatten)]
    pub record: Record,
    /// Whether it serves.
    pub serving: bool,
}

/// All generations, newest first.
///
/// # Errors
/// A registry that cannot be read.
pub async fn rows(registry: &DirectoryRegistry) -> milepost_runtime::Result<Vec<Row>> {
    let serving = registry.serving()?;
    let records = registry.list().await?.into_iter();
    Ok(records.map(|record| Row { serving: serving.contains(&record.id), record }).collect())
}

/// A generation by id or the unique beginning of one.
///
/// # Errors
/// None, or several.
pub async fn find(registry: &DirectoryRegistry, id: &str) -> Result<Record> {
    match registry.get(id).await? {
        Some(record) => Ok(record),
        None => {
            bail!(Error::BadInput(format!("there is no generation {id:?} (or several begin with it); `milepost adapters list` shows them")))
        }
    }
}

/// Puts a generation into service under traffic: the running engine takes it up once it has proved itself, and only then the registry
/// says that it serves.
///
/// # Errors
/// A generation of another model, one that is quarantined or fails its proof; what served goes on.
pub async fn promote_live(
    registry: &DirectoryRegistry,
    engine: &dyn Engine,
    record: &Record,
    reason: &str,
) -> milepost_runtime::Result<()> {
    let now = engine.generation();
    if record.generation.weights() != now.weights() {
        return Err(Error::BadInput(format!(
            "it was trained on base weights {}, and these are {}",
            record.generation.weights(),
            now.weights()
        )));
    }
    if record.status == Status::Quarantined {
        return Err(Error::BadInput("it is quarantined and cannot serve; train another".into()));
    }
    if now.id() != record.id {
        let directory = registry.directory(&record.id);
        let served = engine.swap(&directory, &read_probes(&directory)?.unwrap_or_default()).await?;
        if served.id() != record.id {
            follow(registry, engine).await?;
            return Err(Error::file(&directory, format!("is not what was registered as generation {}; train it again", record.id)));
        }
    }
    if let Err(error) = registry.promote(&record.id, Over::Anything, reason).await {
        follow(registry, engine).await?;
        return Err(error);
    }
    Ok(())
}

/// Takes a generation out of service under traffic, if it is what serves.
///
/// # Errors
/// What served before is not what was registered.
pub async fn rollback_live(
    registry: &DirectoryRegistry,
    engine: &dyn Engine,
    id: &str,
    reason: &str,
) -> milepost_runtime::Result<Rollback> {
    let back = registry.rollback_of(&engine.generation(), id, reason).await?;
    if let Rollback::Done { .. } = back {
        follow(registry, engine).await?;
    }
    Ok(back)
}
