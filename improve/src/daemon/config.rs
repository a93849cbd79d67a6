//! Section `serve.improve` of the configuration: when and how the daemon starts runs of the improvement loop.

use serde::{Deserialize, Serialize};

use crate::config::Recipe;
use crate::host::EnvironmentKind;

/// The tasks that a round learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LearnFrom {
    /// Training tasks of the bundled suite.
    Bundled,
    /// The user's own recorded tasks with a verified outcome.
    #[default]
    Own,
}

impl LearnFrom {
    /// Returns the name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Own => "own",
        }
    }
}

/// When and how the daemon improves its policy by itself, as a child process of low priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImproveInDaemon {
    /// The times at which a run begins: a cron pattern in local time, as in `0 3 * * *`.
    pub schedule: Option<String>,
    /// The number of new verified episodes of the user's own tasks after which a run begins.
    pub every_episodes: Option<usize>,
    /// The recipe by which a round learns; `None` takes `improve.recipe`.
    pub recipe: Option<Recipe>,
    /// The tasks that a round learns from.
    pub suite: LearnFrom,
    /// The number of rounds in a run.
    pub rounds: usize,
    /// Where a round plays its episodes.
    pub environment: EnvironmentKind,
    /// The number of test tasks with which a promoted generation is measured again; 0 for none.
    pub remeasure: usize,
    /// The niceness of the process, 0 to 19.
    pub nice: i32,
    /// The share of busy workers above which the process is stopped; 1 never stops it.
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
            environment: EnvironmentKind::Plain,
            remeasure: 0,
            nice: 15,
            pause_above: 0.5,
        }
    }
}
