//! The settings of a run, as the program's configuration gives them.

use std::path::{Path, PathBuf};

use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{Error, Limits};

use crate::config::ImproveConfig;

/// Where the model is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelLocation {
    /// In this process.
    Local,
    /// On a server, which may be unreachable for a moment.
    Server,
}

/// The settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopSettings {
    /// Section `improve` of the configuration.
    pub improve: ImproveConfig,
    /// The directory of the episode store; the registry of generations is beside it.
    pub episodes: PathBuf,
    /// The adapter that is in service when the run begins.
    pub adapter: AdapterChoice,
    /// The directory of the base weights; `None` if only a server has them.
    pub base: Option<PathBuf>,
    /// Where the model is computed.
    pub model_location: ModelLocation,
    /// The limits of an episode.
    pub limits: Limits,
}

impl LoopSettings {
    /// Returns the directory of the base weights, which adapters are trained on.
    ///
    /// # Errors
    /// Only a server has the weights.
    pub fn weights(&self) -> Result<&Path, Error> {
        let problem = "adapters are trained on weights that are here; set `remote.base` to the directory of those that the server serves, or `engine: local`";
        self.base.as_deref().ok_or_else(|| Error::BadInput(problem.into()))
    }

    /// Returns the directory in which runs keep their state.
    pub fn runs(&self) -> PathBuf {
        self.improve.directory.clone().unwrap_or_else(|| self.episodes.join("improve"))
    }

    /// Returns the directory of the registry of generations.
    pub fn registry(&self) -> PathBuf {
        self.episodes.join("adapters")
    }
}
