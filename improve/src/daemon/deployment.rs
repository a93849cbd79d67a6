//! The deployment: the engine with the generation in service, the registry that it follows, the canary, and the watch over live outcomes.

use std::path::PathBuf;
use std::sync::Arc;

use milepost_runtime::registry::{AdapterChoice, Occasion, Record, Rollback, sync_engine};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, EpisodeStore, GenerationEngine};
use tokio::sync::{Mutex, MutexGuard};

use super::canary::{Canary, CanaryConfig, CanaryStatus, Decision, TrialModel};
use super::live_watch::{LiveWatch, roll_back};
use crate::gate::LiveConfig;
use crate::generations;

/// The settings and parts of a deployment.
pub struct DeploymentSettings {
    /// The engine in service.
    pub engine: Arc<dyn GenerationEngine>,
    /// The registry of generations.
    pub registry: DirectoryRegistry,
    /// The store of episodes.
    pub store: Arc<dyn EpisodeStore>,
    /// The model of a generation on trial.
    pub trial: Arc<dyn TrialModel>,
    /// The configured adapter; only `current` follows the registry.
    pub adapter: AdapterChoice,
    /// How generations are tried first; `None` if no trial is wanted or the base weights are not on this machine.
    pub canary: Option<CanaryConfig>,
    /// How live outcomes are watched; `None` if they are not.
    pub live: Option<LiveConfig>,
    /// The daemon's directory, which holds the state of the canary and of the watch.
    pub directory: PathBuf,
}

/// The engine in service with everything that decides which generation it serves.
pub struct Deployment {
    /// The engine in service.
    pub engine: Arc<dyn GenerationEngine>,
    /// The registry of generations.
    pub registry: DirectoryRegistry,
    store: Arc<dyn EpisodeStore>,
    follows_registry: bool,
    canary: Canary,
    live: LiveWatch,
    /// The lock that is held during a change of the generation in service.
    changing: Mutex<()>,
}

impl Deployment {
    /// Sets up a deployment. A trial that a restart interrupted continues at the first check of the registry.
    pub fn new(settings: DeploymentSettings) -> Self {
        let DeploymentSettings { engine, registry, store, trial, adapter, canary, live, directory } = settings;
        let follows_registry = adapter == AdapterChoice::Current;
        let canary = canary.filter(|_| follows_registry);
        Self {
            canary: Canary::new(canary, live.clone().unwrap_or_default(), trial, &directory),
            live: LiveWatch::new(live, directory.join("live.json")),
            engine,
            registry,
            store,
            follows_registry,
            changing: Mutex::default(),
        }
    }

    /// Waits for the lock on changes of the generation in service; the guard holds it.
    pub async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Returns the state of the canary; `None` if no generation is on trial.
    pub fn canary(&self) -> Option<CanaryStatus> {
        self.canary.status()
    }

    /// Returns whether the generation on trial gets this task; the answer is the same for each attempt at a task.
    pub fn gets_trial(&self, task: &str) -> bool {
        self.canary.gets(task)
    }

    /// Brings the generation into service that the registry names, if the configuration asks for that. An error is logged only once in a row;
    /// `reported` holds the last one.
    pub(super) async fn follow_registry(&self, reported: &mut String) {
        if !self.follows_registry {
            return;
        }
        let _turn = self.changing().await;
        let followed = async {
            match self.canary.check(&*self.engine, &self.registry).await? {
                Decision::OnTrial => Ok(None),
                Decision::ServesAll => Ok::<_, crate::error::Error>(sync_engine(&self.registry, &*self.engine).await?),
            }
        };
        match followed.await {
            Ok(None) => reported.clear(),
            Ok(Some(generation)) => tracing::info!(generation = generation.id(), "another generation serves"),
            Err(error) => {
                let error = error.with_causes();
                if *reported != error {
                    tracing::error!(error, "what should serve does not");
                }
                *reported = error;
            }
        }
    }

    /// Counts the verified outcome of a task, which is named by its episode. If the generation breaks its bound, it is rolled back while requests are
    /// served.
    pub async fn outcome(&self, episode: &str, success: bool) {
        let Ok(Some(episode)) = self.store.load(episode).await else { return };
        if self.canary.outcome(&episode.generation, success) {
            let _turn = self.changing().await;
            return self.canary.roll_back_breach(&*self.engine, &self.registry).await;
        }
        let serving = self.engine.generation();
        if episode.generation != serving.id() || serving.adapter.is_none() {
            return;
        }
        let Ok(Some(record)) = self.registry.get(&episode.generation).await else { return };
        let Some(validated) = record.figure(Occasion::Gate).map(|figure| figure.candidate) else { return };
        let Some(breach) = self.live.record(&record.id, validated, success) else { return };
        let _turn = self.changing().await;
        if self.canary().is_some_and(|trial| trial.incumbent.as_ref() == Some(&record.id)) {
            let fix = "let the trial end, or `milepost adapters rollback` twice: the generation on trial goes first";
            return tracing::error!(generation = record.id, reason = breach.reason, "what serves beside a trial broke its bound; {fix}");
        }
        let done = async {
            match roll_back(&self.registry, &serving, &breach).await? {
                Rollback::Done { .. } => sync_engine(&self.registry, &*self.engine).await,
                Rollback::NotServing { .. } => Ok(None),
            }
        };
        match done.await {
            Ok(_) => self.live.forget(&record.id),
            Err(error) => tracing::error!(%error, "it could not be rolled back; `milepost adapters rollback` does it by hand"),
        }
    }

    /// Puts a generation into service by hand, while requests are served.
    ///
    /// # Errors
    /// The generation belongs to another model, is quarantined, or fails its proof; the old generation stays in service.
    pub async fn promote(&self, record: &Record, reason: &str) -> milepost_runtime::Result<()> {
        let _turn = self.changing().await;
        generations::promote_live(&self.registry, &*self.engine, record, reason).await
    }

    /// Takes a generation out of service by hand, while requests are served.
    ///
    /// # Errors
    /// The files of the generation before it are not the registered ones.
    pub async fn rollback(&self, id: &str, reason: &str) -> milepost_runtime::Result<Rollback> {
        let _turn = self.changing().await;
        generations::rollback_live(&self.registry, &*self.engine, id, reason).await
    }
}
