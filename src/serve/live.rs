//! Verified live outcomes of what serves: a fall below what validation promised takes it out of service.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use milepost_learners::files;
use milepost_learners::gate::{Breach, LiveBound, LiveConfig};
use milepost_runtime::registry::{Figure, Occasion, Rollback, follow as follow_registry};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, EpisodeStore, Generation};
use milepost_service::{EventKind, TaskRecord};
use serde::{Deserialize, Serialize};

use super::App;

/// A generation under watch, as it is written down.
#[derive(Serialize, Deserialize)]
struct Watched {
    generation: String,
    bound: LiveBound,
}

/// Watches the generation that serves.
pub struct LiveWatch {
    config: Option<LiveConfig>,
    file: PathBuf,
    watched: Mutex<Option<Watched>>,
}

impl LiveWatch {
    /// A watch that goes on where its file leaves off.
    pub fn new(config: Option<LiveConfig>, file: PathBuf) -> Self {
        let watched = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { config, file, watched: Mutex::new(watched) }
    }

    /// Takes in a task's verified outcome; a breach rolls what serves back, under traffic.
    pub async fn outcome(&self, app: &App, task: &TaskRecord) {
        let (Some(success), Some(episode)) = (task.success, &task.episode) else { return };
        let Ok(Some(episode)) = app.store.load(episode).await else { return };
        if app.canary.outcome(&episode.generation, success) {
            return app.canary.break_off(app).await;
        }
        let serving = app.mind.engine.generation();
        if episode.generation != serving.id() || serving.adapter.is_none() {
            return;
        }
        let Ok(Some(record)) = app.registry.get(&episode.generation).await else { return };
        let Some(validated) = record.figure(Occasion::Gate).map(|figure| figure.candidate) else { return };
        let Some(breach) = self.record(&record.id, validated, success) else { return };
        let _turn = app.improvement.changing().await;
        if app.canary.status().is_some_and(|trial| trial.incumbent.as_ref() == Some(&record.id)) {
            let fix = "let the trial end, or `milepost adapters rollback` twice: the generation on trial goes first";
            return tracing::error!(generation = record.id, reason = breach.reason, "what serves beside a trial broke its bound; {fix}");
        }
        let done = async {
            match roll_back(&app.registry, &serving, &breach).await? {
                Rollback::Done { .. } => follow_registry(&app.registry, &*app.mind.engine).await,
                Rollback::NotServing { .. } => Ok(None),
            }
        };
        match done.await {
            Ok(_) => self.forget(&record.id),
            Err(error) => tracing::error!(%error, "it could not be rolled back; `milepost adapters rollback` does it by hand"),
        }
    }

    fn record(&self, generation: &str, validated: [u64; 2], success: bool) -> Option<Breach> {
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

    /// Forgets outcomes that were acted on: whoever puts the generation into service again lets it begin anew.
    fn forget(&self, generation: &str) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.take_if(|watched| watched.generation == generation).is_some() {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Takes a generation out of service that broke its bound. Where another one has come into service meanwhile there is nothing to take out.
async fn roll_back(registry: &DirectoryRegistry, broken: &Generation, breach: &Breach) -> milepost_runtime::Result<Rollback> {
    let id = broken.id();
    let rollback = registry.rollback_of(broken, &id, &breach.reason).await?;
    match &rollback {
        Rollback::Done { .. } => {
            tracing::warn!(generation = id, reason = breach.reason, "what served is rolled back");
            metrics::counter!("milepost_rollbacks_total").increment(1);
            let measured = Figure::new(Occasion::Live, breach.live, breach.reason.clone());
            if let Err(error) = registry.measured(&id, measured).await {
                tracing::warn!(%error, "the live figure was not written down");
            }
        }
        Rollback::NotServing { serving } => {
            let serving = serving.as_deref().unwrap_or("the base");
            tracing::info!(generation = id, serving, reason = breach.reason, "what broke its bound was replaced already");
        }
    }
    Ok(rollback)
}

/// Follows all tasks for outcomes that their own checks verified; a person's come with their feedback.
pub(super) async fn follow(app: App) {
    let last = app.service.recent_events(1).await.ok().and_then(|events| events.last().map(|event| event.position));
    let mut events = app.service.all_events(last.unwrap_or(0));
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        if let EventKind::Ended { success: Some(_), .. } = &event.kind
            && let Ok(task) = app.service.get(&event.task).await
        {
            app.live.outcome(&app, &task).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use milepost_runtime::registry::{Over, Record, Status};

    use super::*;

    async fn registered(registry: &DirectoryRegistry, directory: &Path, name: &str) -> Record {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in [("adapter_config.json", "{}"), ("adapter_model.safetensors", name), ("lineage.json", "{}")] {
            std::fs::write(path.join(file), text).unwrap();
        }
        registry.register(&path, &Generation { base: "b1".into(), ..Generation::default() }).await.unwrap()
    }

    /// Failures in a watch until its bound is broken.
    fn broken(generation: &str, file: PathBuf) -> Breach {
        let watch = LiveWatch::new(Some(LiveConfig::default()), file);
        (0..20).find_map(|_| watch.record(generation, [90, 100], false)).unwrap()
    }

    #[test]
    fn outcomes_that_were_acted_on_are_forgotten_and_those_of_another_start_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("live.json");
        let new = || LiveWatch::new(Some(LiveConfig::default()), file.clone());
        // The bound is looked at after every fifth outcome.
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

    /// The breach and the turn to change what serves are two moments; a promotion may lie between them.
    #[tokio::test]
    async fn only_what_broke_its_bound_is_rolled_back() {
        let directory = tempfile::tempdir().unwrap();
        let registry = DirectoryRegistry::new(directory.path().join("adapters"));
        let a = registered(&registry, directory.path(), "a").await;
        let b = registered(&registry, directory.path(), "b").await;
        registry.promote(&a.id, Over::Base, "better").await.unwrap();
        let breach = broken(&a.id, directory.path().join("live.json"));
        registry.promote(&b.id, Over::Generation(&a.id), "better").await.unwrap();
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
