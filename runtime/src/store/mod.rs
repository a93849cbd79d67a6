//! The store of episodes: a trait, and SQLite (WAL) as the embedded default.

mod codec;
mod discard;
mod hosts;
pub mod migrations;
mod prune;
mod quarantine;
mod read;
pub mod reclaim;
mod sqlite;
mod transaction;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use discard::{DiscardingStore, unrecorded_agent};
pub use hosts::bare_host;
pub use quarantine::Quarantined;
pub use sqlite::SqliteStore;
pub use transaction::WriteTransaction;

use crate::call::Call;
use crate::episode::{Episode, Step};
use crate::error::Result;
use crate::plan::Plan;

/// One episode in a listing.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeSummary {
    /// Episode id.
    pub id: String,
    /// The goal of the task.
    pub goal: String,
    /// Name of the policy.
    pub policy: String,
    /// Id of the generation that served it.
    pub generation: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Name of the stop reason; `None` while it runs or if the process died.
    pub stop: Option<String>,
    /// Number of steps.
    pub steps: i64,
    /// Verified outcome.
    pub success: Option<bool>,
}

/// The result of [`EpisodeStore::prune`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Number of removed episodes.
    pub episodes: u64,
    /// Number of removed screenshot folders.
    pub screenshots: u64,
    /// Size of the removed screenshots in bytes.
    pub screenshot_bytes: u64,
    /// Number of bytes by which the database has shrunk.
    pub database_bytes: u64,
    /// Why the space of the removed episodes stays in the database; `None` if it was given back.
    pub not_reclaimed: Option<String>,
}

/// Selects the episodes that a learner wants.
#[derive(Clone, Debug, Default)]
pub struct TrainingQuery {
    /// Only episodes that this generation served; `None` for all.
    pub generation: Option<String>,
    /// Only episodes that started at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only episodes of the suite's tasks (`Some(true)`), or only of users' own tasks (`Some(false)`).
    pub from_suite: Option<bool>,
}

/// Stores episodes, step by step: a crash loses at most the step in progress.
#[async_trait]
pub trait EpisodeStore: Send + Sync {
    /// Records the start of an episode.
    async fn begin(&self, episode: &Episode) -> Result<()>;
    /// Records the present state of a plan version; it is recorded again when it changes.
    async fn plan(&self, episode: &str, plan: &Plan) -> Result<()>;
    /// Records a step with its calls.
    async fn step(&self, episode: &str, step: &Step) -> Result<()>;
    /// Records a call outside a step.
    async fn call(&self, episode: &str, turn: Option<u32>, call: &Call) -> Result<()>;
    /// Stores a screenshot; returns its path relative to the store's directory.
    async fn screenshot(&self, episode: &str, turn: u32, png: &[u8]) -> Result<String>;
    /// Records the end of an episode.
    async fn end(&self, episode: &Episode) -> Result<()>;
    /// Sets the verified outcome of an episode.
    async fn set_success(&self, episode: &str, success: Option<bool>) -> Result<()>;
    /// Reads a whole episode by its id or a unique beginning of its id; `None` if there is none.
    async fn load(&self, id: &str) -> Result<Option<Episode>>;
    /// Lists the newest episodes first, at most `limit`.
    async fn list(&self, limit: u32) -> Result<Vec<EpisodeSummary>>;
    /// Returns the ids of the episodes that may be trained on, oldest first: those that ended with a verified outcome, were not ended by a
    /// failure or cancelled by a person, and belong to no held-out template, no validation or test seed and no quarantined host.
    async fn trainable(&self, query: &TrainingQuery) -> Result<Vec<String>>;
    /// Puts a host into quarantine: from now on, every episode that starts on it, sees a page of it, or names an address of it in a `goto`
    /// or in a tool's arguments is kept out of training. Spelling and port do not matter.
    async fn quarantine(&self, host: &str, reason: &str) -> Result<()>;
    /// Removes the episodes that started before `before`, and gives their space back to the disk.
    async fn prune(&self, before: DateTime<Utc>) -> Result<Pruned>;
}
