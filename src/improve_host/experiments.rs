//! Gives experiments the bundled suite and the program's settings.

use milepost_improve::experiment::{ArmConfig, ExperimentHost};
use milepost_improve::host::{Host, TaskSuite};
use milepost_improve::settings::LoopSettings;
use milepost_planners::Prompts;
use milepost_runtime::Generation;
use serde_json::Value;

use super::error::host_error;
use super::host::{host, loop_settings};
use super::suite::BundledSuite;
use crate::config::Config;
use crate::model;

/// The host of experiments: it sets their arms up as the program would with the same settings.
pub struct ProgramExperiments {
    suite: BundledSuite,
}

impl Default for ProgramExperiments {
    fn default() -> Self {
        Self { suite: BundledSuite::new(&Config::default()) }
    }
}

fn parse(settings: Value) -> milepost_improve::Result<Config> {
    Ok(serde_json::from_value(settings)?)
}

impl ExperimentHost for ProgramExperiments {
    fn suite(&self) -> &dyn TaskSuite {
        &self.suite
    }

    fn default_settings(&self) -> Value {
        serde_json::to_value(Config::default()).unwrap_or_default()
    }

    fn config(&self, settings: Value) -> milepost_improve::Result<ArmConfig> {
        let config = parse(settings)?;
        Ok(ArmConfig { improve: config.improve.clone(), settings: serde_json::to_value(config)? })
    }

    fn open(&self, config: &ArmConfig) -> milepost_improve::Result<(Host, LoopSettings)> {
        let config = parse(config.settings.clone())?;
        Ok((host(&config).map_err(host_error)?, loop_settings(&config)))
    }

    fn start_generation(&self, config: &ArmConfig) -> milepost_improve::Result<String> {
        let config = parse(config.settings.clone())?;
        let base = model::base_generation(&config).map_err(host_error)?;
        let prompts = Prompts::new(&config.policy)?.hash().to_owned();
        Ok(Generation { prompts, ..base }.id())
    }
}
