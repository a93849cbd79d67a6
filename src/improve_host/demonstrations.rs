//! Gives supervised training the bundled suite and the configured prompts.

use std::path::Path;
use std::sync::Arc;

use milepost_engines::{LocalModelConfig, base_hash};
use milepost_improve::host::{PromptWriter, TaskSuite};
use milepost_improve::supervised::DemonstrationHost;

use super::prompts::ProgramPrompts;
use super::suite::BundledSuite;
use crate::config::Config;

/// The demonstrations of the bundled suite, with the prompts of the configured planner.
pub struct ProgramDemonstrations {
    config: Config,
}

impl ProgramDemonstrations {
    /// Uses this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl DemonstrationHost for ProgramDemonstrations {
    fn suite(&self) -> Arc<dyn TaskSuite> {
        Arc::new(BundledSuite::new(&self.config))
    }

    fn prompts(&self) -> milepost_improve::Result<Arc<dyn PromptWriter>> {
        Ok(Arc::new(ProgramPrompts::new(&self.config)?))
    }

    fn base_hash(&self, model: &Path) -> milepost_improve::Result<String> {
        Ok(base_hash(&LocalModelConfig { model: model.display().to_string(), ..LocalModelConfig::default() })?)
    }
}
