//! Watches the verified live outcomes of the generation in service, and rolls it back if they fall below its validation result.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use milepost_learners::files;
use milepost_runtime::registry::{Figure, Occasion, Rollback};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Generation};
use serde::{Deserialize, Serialize};

use crate::gate::{Breach, LiveBound, LiveConfig};

/// The record of a watched generation, as the file holds it.
#[derive(Serialize, Deserialize)]
struct Watched {
    generation: String,
    bound: LiveBound,
}

/// Watches the generation that serves.
pub(super) struct LiveWatch {
    config: Option<LiveConfig>,
    file: PathBuf,
    watched: Mutex<Option<Watched>>,
}

impl LiveWatch {
    /// Creates a watch that continues with the outcomes in its file.
    pub(super) fn new(config: Option<LiveConfig>, file: PathBuf) -> Self {
        let watched = read(&file).unwrap_or_else(|error| {
            tracing::error!(%error, file = %file.display(), "the outcomes of the generation in service cannot be read; they are counted from 0");
            None
        });
        Self { config, file, watched: Mutex::new(watched) }
    }

    /// Counts a verified outcome of a generation. Returns the breach if the generation broke its bound.
    pub(super) fn record(&self, generation: &str, validated: [u64; 2], success: bool) -> Option<Breach> {
        let config = self.config.clone()?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_none_or(|watched| watched.generation != generation) {
            let bound = LiveBound::new(config, validated).inspect_err(|error| tracing::error!(%error, "`serve.live`")).ok()?;
            *watched = Some(Watched { generation: generation.to_owned(), bound });
        }
        let breach = watched.as_mut()?.bound.record(success);
        if let Err(error) = files::replace(&self.file, &serde_json::to_vec(&*watched).unwrap_or_default()) {
            tracing::warn!(%error, "the live watch was not written down");
        }
        breach
    }

    /// Forgets the outcomes of a generation that was rolled back, so that none of them count when it is put into service again.
    pub(super) fn forget(&self, generation: &str) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.take_if(|watched| watched.generation == generation).is_some() {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Reads the record; returns `None` if there is no file.
fn read(file: &Path) -> std::io::Result<Option<Watched>> {
    match std::fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Rolls back a generation that broke its bound. Nothing is rolled back if another generation has come into service meanwhile.
pub(super) async fn roll_back(registry: &DirectoryRegistry, serving: &Generation, breach: &Breach) -> milepost_runtime::Result<Rollback> {
    let id = serving.id();
    let rollback = registry.rollback_of(serving, &id, &breach.reason).await?;
    match &rollback {
        Rollback::Done { .. } => {
            tracing::warn!(generation = id, reason = breach.reason, "what served is rolled back");
            metrics::counter!("milepost_rollbacks_total").increment(1);
            let measured = Figure::new(Occasion::Live, breach.live, breach.reason.clone());
            if let Err(error) = registry.measured(&id, measured).await {
                tracing::warn!(%error, "the live figure was not written down");
            }
        }
        Rollback::NotServing { serving: other } => {
            let serving = other.as_deref().unwrap_or("the base");
            tracing::info!(generation = id, serving, reason = breach.reason, "what broke its bound was replaced already");
        }
    }
    Ok(rollback)
}

#[cfg(test)]
mod tests {
    use milepost_runtime::registry::{Incumbent, Record, Status};

    use super::*;

    /// Registers an adapter with this name.
    async fn registered(registry: &DirectoryRegistry, directory: &Path, name: &str) -> Record {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in [("adapter_config.json", "{}"), ("adapter_model.safetensors", name), ("lineage.json", "{}")] {
            std::fs::write(path.join(file), text).unwrap();
        }
        registry.register(&path, &Generation { base: "b1".into(), ..Generation::default() }).await.unwrap()
    }

    /// Records failures in a new watch until the bound is broken; returns the breach.
    fn broken(generation: &str, file: PathBuf) -> Breach {
        let watch = LiveWatch::new(Some(LiveConfig::default()), file);
        (0..20).find_map(|_| watch.record(generation, [90, 100], false)).unwrap()
    }

    #[test]
    fn outcomes_survive_a_restart_and_are_forgotten_after_a_rollback() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("live.json");
        let new = || LiveWatch::new(Some(LiveConfig::default()), file.clone());
        // The bound is checked after every fifth outcome.
        let fail = |watch: &LiveWatch, times: usize| (0..times).filter_map(|_| watch.record("g", [90, 100], false)).count();
        let watch = new();
        assert_eq!((fail(&watch, 3), fail(&new(), 2)), (0, 1), "a restart knows what there was");
        let watch = new();
        assert_eq!(fail(&watch, 3), 0);
        watch.forget("another");
        assert_eq!(fail(&watch, 2), 1, "the tenth in a row");
        assert_eq!(fail(&watch, 3), 0);
        watch.forget("g");
        assert_eq!((fail(&watch, 2), fail(&new(), 2)), (0, 0), "it has begun anew");
    }

    /// Another generation may be promoted between the breach and the rollback.
    #[tokio::test]
    async fn only_the_generation_that_broke_its_bound_is_rolled_back() {
        let directory = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(directory.path().join("adapters"));
        let a = registered(&registry, directory.path(), "a").await;
        let b = registered(&registry, directory.path(), "b").await;
        registry.promote(&a.id, Incumbent::Base, "better").await.unwrap();
        let breach = broken(&a.id, directory.path().join("live.json"));
        registry.promote(&b.id, Incumbent::Generation(&a.id), "better").await.unwrap();
        let nothing = roll_back(&registry, &a.generation, &breach).await.unwrap();
        assert_eq!(nothing, Rollback::NotServing { serving: Some(b.id.clone()) });
        assert_eq!(registry.serving().unwrap(), std::slice::from_ref(&b.id));
        let untouched = registry.get(&a.id).await.unwrap().unwrap();
        assert!(untouched.status == Status::Promoted && untouched.figures.is_empty(), "{untouched:?}");

        let breach = broken(&b.id, directory.path().join("live.json"));
        let done = roll_back(&registry, &b.generation, &breach).await.unwrap();
        assert_eq!(done, Rollback::Done { serving: Some(a.id.clone()) });
        assert_eq!(registry.serving().unwrap(), [a.id]);
        let gone = registry.get(&b.id).await.unwrap().unwrap();
        assert_eq!((gone.status, gone.figure(Occasion::Live).map(|figure| figure.candidate)), (Status::RolledBack, Some([0, 5])));
    }
}
