//! A loaded model together with the prompts of its policies and its verifier.

use std::sync::Arc;

use milepost_runtime::GenerationEngine;

use crate::config::{PlannerKind, PlannersConfig};
use crate::policy::ModelPolicy;
use crate::prompts::Prompts;
use crate::verifier::ModelVerifier;

/// A loaded model with its prompts and its verifier.
#[derive(Clone)]
pub struct LoadedModel {
    /// The engine.
    pub engine: Arc<dyn GenerationEngine>,
    /// The prompts.
    pub prompts: Arc<Prompts>,
    /// Decides milestones that have no check.
    pub verifier: Arc<ModelVerifier>,
}

impl LoadedModel {
    /// Combines an engine with prompts.
    pub fn new(engine: Arc<dyn GenerationEngine>, prompts: Arc<Prompts>) -> Self {
        Self { verifier: Arc::new(ModelVerifier::new(engine.clone(), prompts.clone())), engine, prompts }
    }

    /// Replaces the engine by a wrapper around it, such as one that measures its calls.
    #[must_use]
    pub fn wrap(self, wrapper: impl FnOnce(Arc<dyn GenerationEngine>) -> Arc<dyn GenerationEngine>) -> Self {
        Self::new(wrapper(self.engine), self.prompts)
    }

    /// Creates a policy of this kind on the model.
    pub fn policy(&self, kind: PlannerKind, config: &PlannersConfig) -> ModelPolicy {
        ModelPolicy::new(self.engine.clone(), self.prompts.clone(), kind, config.clone())
    }
}
