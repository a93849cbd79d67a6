//! The models of the daemon: the one in service, and the one of a generation on trial.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use milepost_improve::daemon::{Deployment, TrialModel};
use milepost_planners::LoadedModel;
use milepost_runner::daemon::{MeteredEngine, ModelSource};
use milepost_runtime::registry::AdapterChoice;

use crate::config::Config;
use crate::model;

/// Holds the model of a generation on trial.
pub(super) struct TrialSlot {
    config: Config,
    model: RwLock<Option<Arc<LoadedModel>>>,
}

impl TrialSlot {
    /// Creates an empty slot.
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.clone(), model: RwLock::default() }
    }

    fn model(&self) -> Option<Arc<LoadedModel>> {
        self.model.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, model: Option<Arc<LoadedModel>>) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = model;
    }
}

#[async_trait]
impl TrialModel for TrialSlot {
    async fn load(&self, adapter: AdapterChoice) -> milepost_improve::Result<()> {
        let config = Config { adapter, ..self.config.clone() };
        let loaded = model::load(&config).await.map_err(|error| milepost_improve::Error::Host(error.into()))?;
        self.set(Some(Arc::new(loaded.wrap(|engine| Arc::new(MeteredEngine::new(engine, config.model()))))));
        Ok(())
    }

    fn unload(&self) {
        self.set(None);
    }
}

/// Chooses between the model in service and the model on trial.
pub(super) struct DaemonModels {
    serving: Arc<LoadedModel>,
    trial: Arc<TrialSlot>,
    deployment: Arc<Deployment>,
}

impl DaemonModels {
    pub(super) fn new(serving: Arc<LoadedModel>, trial: Arc<TrialSlot>, deployment: Arc<Deployment>) -> Self {
        Self { serving, trial, deployment }
    }
}

impl ModelSource for DaemonModels {
    fn model_for(&self, task: &str) -> Arc<LoadedModel> {
        let on_trial = self.trial.model().filter(|_| self.deployment.gets_trial(task));
        on_trial.unwrap_or_else(|| self.serving.clone())
    }
}
