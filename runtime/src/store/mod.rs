//! Where episodes are kept: a trait, and SQLite (WAL) as the embedded default.

mod codec;
mod hosts;
mod quarantine;
mod sqlite;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use hosts::bare_host;
pub use quarantine::Quarantined;
pub use sqlite::SqliteStore;

use crate::call::Call;
use crate::episode::{Episode, Step};
use crate::error::Result;
use crate::plan::Plan;

/// One row of a listing.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeSummary {
    /// Episode id.
    pub id: String,
    /// What was asked.
    pub goal: String,
    /// Name of the policy.
    pub policy: String,
    /// Generation that served it.
    pub generation: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Stop reason (a word); `None` while running or where the process died.
    pub stop: Option<String>,
    /// Number of steps.
    pub steps: i64,
    /// Verified outcome.
    pub success: Option<bool>,
}

/// What was removed by pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Episodes removed.
    pub episodes: u64,
    /// Screenshot folders removed.
    pub screenshots: u64,
}

/// Which episodes a learner asks for.
#[derive(Clone, Debug, Default)]
pub struct TrainingQuery {
    /// Only episodes that this generation served; `None` for all.
    pub generation: Option<String>,
    /// Only episodes that began at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only the suite's tasks (`Some(true)`), or only a user's own (`Some(false)`).
    pub from_suite: Option<bool>,
}

/// Keeps episodes, appended step by step: a crash loses at most the step in flight.
#[async_trait]
pub trait EpisodeStore: Send + Sync {
    /// An episode begins.
    async fn begin(&self, episode: &Episode) -> Result<()>;
    /// A plan version as it stands now (written again when it changes).
    async fn plan(&self, episode: &str, plan: &Plan) -> Result<()>;
    /// A step with its calls.
    async fn step(&self, episode: &str, step: &Step) -> Result<()>;
    /// A call outside a step.
    async fn call(&self, episode: &str, turn: Option<u32>, call: &Call) -> Result<()>;
    /// A screenshot; returns its path relative to the store's directory.
    async fn screenshot(&self, episode: &str, turn: u32, png: &[u8]) -> Result<String>;
    /// An episode ends.
    async fn end(&self, episode: &Episode) -> Result<()>;
    /// Sets the verified outcome of an episode.
    async fn set_success(&self, episode: &str, success: Option<bool>) -> Result<()>;
    /// Reads an episode whole; `None` where there is none with this id (or unique beginning of an id).
    async fn load(&self, id: &str) -> Result<Option<Episode>>;
    /// The newest episodes first, at most `limit`.
    async fn list(&self, limit: u32) -> Result<Vec<EpisodeSummary>>;
    /// Ids of the episodes that may be trained on, oldest first: ended, with a verified outcome, not broken off by a failure or a person, of
    /// no held-out template, no validation or test seed, and no quarantined host.
    async fn trainable(&self, query: &TrainingQuery) -> Result<Vec<String>>;
    /// Keeps every episode that starts on this host, sees a page of it, or names an address of it in a `goto` or a tool's arguments out of
    /// training from now on. Spelling and port do not matter.
    async fn quarantine(&self, host: &str, reason: &str) -> Result<()>;
    /// Removes episodes that began before `before`.
    async fn prune(&self, before: DateTime<Utc>) -> Result<Pruned>;
}
