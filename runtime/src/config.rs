//! The runtime's sections of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which steps leave a screenshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Screenshots {
    /// Steps at which a milestone became true, and the last.
    #[default]
    Milestones,
    /// Every step.
    All,
    /// None.
    Off,
}

/// Section `episodes`: where they are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpisodesConfig {
    /// Directory of the database and the screenshots.
    pub directory: PathBuf,
    /// Which steps leave a screenshot.
    pub screenshots: Screenshots,
    /// `episodes prune` removes what is older than so many days.
    pub retention_days: u32,
}

impl Default for EpisodesConfig {
    fn default() -> Self {
        Self { directory: "data".into(), screenshots: Screenshots::Milestones, retention_days: 90 }
    }
}
