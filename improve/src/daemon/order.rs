//! Orders for runs, and the state of the improvement loop.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::config::LearnFrom;
use crate::config::Recipe;

/// An order for a run.
#[derive(Clone, Debug)]
pub struct Order {
    /// The reason for the run: the person or the trigger that ordered it.
    pub reason: String,
    /// The recipe by which a round learns; `None` takes `improve.recipe`.
    pub recipe: Option<Recipe>,
    /// The tasks that the run learns from.
    pub suite: LearnFrom,
    /// The number of rounds.
    pub rounds: usize,
}

/// A run in progress.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Running {
    /// The reason for the run: the person or the trigger that ordered it.
    pub reason: String,
    /// When the run began.
    pub since: DateTime<Utc>,
    /// Whether the run is stopped because the workers are busy.
    pub paused: bool,
    /// The id of the process.
    pub process: u32,
}

/// A run that has ended.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finished {
    /// The reason for the run: the person or the trigger that ordered it.
    pub reason: String,
    /// When the run began.
    pub began_at: DateTime<Utc>,
    /// When the run ended.
    pub ended_at: DateTime<Utc>,
    /// Whether the run succeeded.
    pub done: bool,
    /// The end of the log, if the run failed.
    pub said: Option<String>,
    /// The report of the run: `rounds`, `remeasured`, `settings`, `directory`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub report: Option<Value>,
}

/// The state of the improvement loop.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImproveStatus {
    /// The run in progress.
    pub running: Option<Running>,
    /// The last run since the daemon started.
    pub last: Option<Finished>,
    /// The times at which runs begin.
    pub schedule: Option<String>,
    /// The number of verified episodes after which a run begins.
    pub every_episodes: Option<usize>,
}
