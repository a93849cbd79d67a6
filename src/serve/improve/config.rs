//! Section `serve.improve`: when the daemon improves its policy by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::improve::config::Recipe;

/// What a round learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LearnFrom {
    /// Training tasks of the bundled suite.
    Bundled,
    /// One's own recorded tasks with a verified outcome.
    #[default]
    Own,
}

impl LearnFrom {
    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Own => "own",
        }
    }
}

/// Where a round plays its episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlayIn {
    /// Real Chromium.
    Browser,
    /// The script-free reader: many times faster.
    #[default]
    Plain,
}

/// When and how the daemon improves its policy by itself, as a child process of low priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImproveInDaemon {
    /// At these times: a cron pattern in local time, as in `0 3 * * *`.
    pub schedule: Option<String>,
    /// After so many new verified episodes of one's own tasks.
    pub every_episodes: Option<usize>,
    /// How a round learns; `improve.recipe` where none is given.
    pub recipe: Option<Recipe>,
    /// What a round learns from.
    pub suite: LearnFrom,
    /// Rounds of a run.
    pub rounds: usize,
    /// Where a round plays its episodes.
    pub environment: PlayIn,
    /// Test tasks with which a promoted generation is measured again; 0 for none.
    pub remeasure: usize,
    /// Niceness of the process, 0 to 19.
    pub nice: i32,
    /// It stands still while more than this share of the workers is busy; 1 never stops it.
    pub pause_above: f64,
}

impl Default for ImproveInDaemon {
    fn default() -> Self {
        Self {
            schedule: None,
            every_episodes: None,
            recipe: None,
            suite: LearnFrom::Own,
            rounds: 1,
            environment: PlayIn::Plain,
            remeasure: 0,
            nice: 15,
            pause_above: 0.5,
        }
    }
}
