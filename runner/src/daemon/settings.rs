//! The settings of the runner.

use std::path::PathBuf;

use milepost_runtime::{Limits, Secrets};

use crate::task::RunSettings;

/// The settings of the runner.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// The settings with which each task is carried out.
    pub run: RunSettings,
    /// The limits of a task that sets none.
    pub limits: Limits,
    /// All secrets; a task gets those that its capability names.
    pub secrets: Secrets,
    /// The directory of the named browser profiles.
    pub profiles: PathBuf,
    /// The number of browsers that are started before a task needs one.
    pub warm_browsers: usize,
}
