//! The trait through which the program injects its settings into experiments.

use serde_json::Value;

use crate::config::ImproveConfig;
use crate::error::Result;
use crate::host::{Host, TaskSuite};
use crate::settings::LoopSettings;

/// The validated settings of an arm.
#[derive(Clone, Debug)]
pub struct ArmConfig {
    /// The settings of section `improve`.
    pub improve: ImproveConfig,
    /// All settings, with all keys.
    pub settings: Value,
}

/// Gives experiments the program's settings.
pub trait ExperimentHost: Send + Sync {
    /// Returns the suite that arms play.
    fn suite(&self) -> &dyn TaskSuite;

    /// Returns the program's default settings, with all keys.
    fn default_settings(&self) -> Value;

    /// Validates settings.
    ///
    /// # Errors
    /// A key does not exist, or its value is wrong.
    fn config(&self, settings: Value) -> Result<ArmConfig>;

    /// Creates the host and the settings of a run with these settings.
    ///
    /// # Errors
    /// A prompt or tool cannot be set up.
    fn open(&self, config: &ArmConfig) -> Result<(Host, LoopSettings)>;

    /// Returns the id of the generation that an arm with these settings starts from, which its weights and prompts determine.
    ///
    /// # Errors
    /// The model is missing or incomplete.
    fn start_generation(&self, config: &ArmConfig) -> Result<String>;
}
