//! Loads the configured model for the improvement loop.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_improve::host::{ModelLoader, PolicySampling};
use milepost_planners::{LoadedModel, PlannersConfig};
use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{Generation, GenerationEngine, Policy, Verifier};

use super::error::host_error;
use crate::config::Config;
use crate::model;

/// Loads the configured model with the adapters that the loop names.
pub(super) struct ProgramModels {
    pub(super) config: Config,
}

#[async_trait]
impl ModelLoader for ProgramModels {
    async fn load(&self, adapter: AdapterChoice) -> milepost_improve::Result<Arc<dyn milepost_improve::host::LoadedModel>> {
        let loaded = model::load(&Config { adapter, ..self.config.clone() }).await.map_err(host_error)?;
        Ok(Arc::new(ConfiguredModel { loaded, config: self.config.policy.clone() }))
    }

    fn base(&self) -> milepost_improve::Result<Generation> {
        model::base_generation(&self.config).map_err(host_error)
    }
}

/// A loaded model with the settings of its policies.
struct ConfiguredModel {
    loaded: LoadedModel,
    config: PlannersConfig,
}

impl milepost_improve::host::LoadedModel for ConfiguredModel {
    fn engine(&self) -> &dyn GenerationEngine {
        &*self.loaded.engine
    }

    fn policy(&self, sampling: PolicySampling) -> Box<dyn Policy> {
        let mut config = self.config.clone();
        config.temperature = sampling.temperature;
        config.answer_by = sampling.answer_by.unwrap_or(config.answer_by);
        Box::new(self.loaded.policy(config.planner, &config))
    }

    fn verifier(&self) -> &dyn Verifier {
        &*self.loaded.verifier
    }
}
