//! The runtime's section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which steps leave a screenshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Screenshots {
    /// Steps at which a milestone became true, and the last step.
    #[default]
    Milestones,
    /// Every step.
    All,
    /// No step.
    Off,
}

/// The section `episodes`: where episodes are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpisodesConfig {
    /// Directory of the database and the screenshots.
    pub directory: PathBuf,
    /// Which steps leave a screenshot.
    pub screenshots: Screenshots,
    /// The age in days beyond which `episodes prune` removes an episode.
    pub retention_days: u32,
}

impl Default for EpisodesConfig {
    fn default() -> Self {
        Self { directory: "data".into(), screenshots: Screenshots::Milestones, retention_days: 90 }
    }
}
