//! Lists and changes generations, for the command line and the daemon.

use std::path::PathBuf;

use milepost_learners::adapter::{Lineage, read_lineage};
use milepost_runtime::registry::{Incumbent, Record, Rollback, Status, read_probes, sync_engine};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Error, GenerationEngine, Result};
use serde::Serialize;

/// A generation in a listing.
#[derive(Serialize)]
pub struct Row {
    /// The generation's record.
    #[serde(flatten)]
    pub record: Record,
    /// Whether the generation is in service.
    pub serving: bool,
}

/// Everything that is known about a generation.
#[derive(Serialize)]
pub struct Details {
    /// The generation's entry in the listing.
    #[serde(flatten)]
    pub row: Row,
    /// The directory of the adapter.
    pub directory: PathBuf,
    /// How the adapter was made.
    pub lineage: Option<Lineage>,
    /// The number of tokens on which the adapter proves itself before it serves.
    pub probe_tokens: usize,
    /// The file with the training's figures by step.
    pub metrics: Option<PathBuf>,
    /// The picture of these figures.
    pub curve: Option<PathBuf>,
}

/// Lists all generations, newest first.
///
/// # Errors
/// The registry cannot be read.
pub async fn rows(registry: &DirectoryRegistry) -> Result<Vec<Row>> {
    let serving = registry.serving()?;
    let records = registry.list().await?.into_iter();
    Ok(records.map(|record| Row { serving: serving.contains(&record.id), record }).collect())
}

/// Reads everything that is known about a generation, which is found by its id or a unique prefix of it.
///
/// # Errors
/// There is no such generation, several ids have this prefix, or its files cannot be read.
pub async fn details(registry: &DirectoryRegistry, id: &str) -> crate::Result<Details> {
    let record = find(registry, id).await?;
    let directory = registry.directory(&record.id);
    let file = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
    Ok(Details {
        lineage: read_lineage(&directory)?,
        probe_tokens: read_probes(&directory)?.map_or(0, |probes| probes.expected.iter().map(Vec::len).sum()),
        metrics: file("metrics.jsonl"),
        curve: file("curve.svg"),
        row: Row { serving: registry.serving()?.contains(&record.id), record },
        directory,
    })
}

/// Finds a generation by its id or a unique prefix of it.
///
/// # Errors
/// There is no such generation, or several ids have this prefix.
pub async fn find(registry: &DirectoryRegistry, id: &str) -> Result<Record> {
    registry.get(id).await?.ok_or_else(|| {
        Error::BadInput(format!("there is no generation {id:?} (or several begin with it); `milepost adapters list` shows them"))
    })
}

/// Puts a generation into service while requests are served. The engine swaps to it after it has proved itself, and only then does the registry
/// record that it serves.
///
/// # Errors
/// The generation belongs to another model, is quarantined, or fails its proof; the old generation stays in service.
pub async fn promote_live(registry: &DirectoryRegistry, engine: &dyn GenerationEngine, record: &Record, reason: &str) -> Result<()> {
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
            sync_engine(registry, engine).await?;
            return Err(Error::file(&directory, format!("is not what was registered as generation {}; train it again", record.id)));
        }
    }
    if let Err(error) = registry.promote(&record.id, Incumbent::Any, reason).await {
        sync_engine(registry, engine).await?;
        return Err(error);
    }
    Ok(())
}

/// Takes a generation out of service while requests are served, if it is the generation in service.
///
/// # Errors
/// The files of the generation before it are not the registered ones.
pub async fn rollback_live(registry: &DirectoryRegistry, engine: &dyn GenerationEngine, id: &str, reason: &str) -> Result<Rollback> {
    let back = registry.rollback_of(&engine.generation(), id, reason).await?;
    if let Rollback::Done { .. } = back {
        sync_engine(registry, engine).await?;
    }
    Ok(back)
}
