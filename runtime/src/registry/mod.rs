//! The registry of adapter generations: a trait, and a directory as the embedded default.
//!
//! # The base of a hub id
//!
//! The base of a model that is given as a hub id is the hash of its weights, as for a directory. Earlier versions took the hash of the id's
//! name, so their registries hold that hash in records, lineages and `current.json`. Such a generation is accepted on the model with that
//! hub id:
//!
//! - A generation's id is a hash over its base, and directories, episodes and the records of other generations refer to it. So the id
//!   stays: the record holds the new hash as `base` and the old one as `registered_base`, from which the id is computed. An engine reads
//!   both from the adapter's directory ([`registered_base`]) and serves the generation under the same id.
//! - A record is rewritten only after a start has succeeded ([`DirectoryRegistry::rebase`]), because only the probes of the adapter that
//!   starts, and not a name, prove that the weights are those that the adapters were trained on. Until then, the generation in service is
//!   found under the old hash ([`DirectoryRegistry::recorded_base`]).
//! - All records of the hub id are rewritten at once, so that a rollback or a promotion finds each of them on the same base.
//! - A rewritten record is bound to the weights like any other: on other weights its id is not computed from `registered_base`, and it is
//!   refused.

mod choice;
mod directory;
mod files;
mod pointer;
mod rebase;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use choice::{AdapterChoice, ChosenAdapter};
pub use directory::{DirectoryRegistry, UpdaterLock};
pub use rebase::registered_base;

use crate::call::Generation;
use crate::error::{Error, Result};
use crate::hash::adapter_hash;
use crate::traits::{GenerationEngine, Probes};

/// The status of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was trained and not yet judged.
    Candidate,
    /// It was put into service; [`AdapterRegistry::current`] says whether it still serves.
    Promoted,
    /// It was refused: it is worse, broken, or not the adapter that was trained.
    Quarantined,
    /// It could be shown neither to be better nor to be worse.
    Inconclusive,
    /// It served and was taken out of service.
    RolledBack,
}

impl Status {
    /// Returns the status in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Promoted => "promoted",
            Self::Quarantined => "quarantined",
            Self::Inconclusive => "inconclusive",
            Self::RolledBack => "rolled back",
        }
    }
}

/// One change of status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The new status.
    pub status: Status,
    /// When it changed.
    pub at: DateTime<Utc>,
    /// Why it changed.
    pub reason: String,
    /// Whether a promotion was a person's choice, regardless of the generation in service, and not the verdict of a comparison; `None` if
    /// that was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<bool>,
}

/// The occasion on which a figure was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The gate measured it on validation tasks.
    Gate,
    /// It was measured again on other tasks, since the gate's own figure is biased upwards by selection.
    Remeasured,
    /// It was measured on the share of live traffic that was routed to the generation.
    Canary,
    /// It was measured in service.
    Live,
}

/// A measurement of a generation, compared with the incumbent if there was one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// On which occasion it was measured.
    pub occasion: Occasion,
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// The number of tasks that this generation solved, and the number that it tried.
    pub candidate: [u64; 2],
    /// The number of tasks that the incumbent solved, and the number that it tried.
    pub incumbent: Option<[u64; 2]>,
    /// p-value of the test behind the decision.
    pub p: Option<f64>,
    /// The status that was decided from it.
    pub decision: Option<Status>,
    /// The reason for the decision.
    pub reason: String,
}

/// The record of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id, which is that of its [`Generation`].
    pub id: String,
    /// Its hashes, and its parent's id.
    #[serde(flatten)]
    pub generation: Generation,
    /// Its status.
    pub status: Status,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The recipe that trained it; empty for an adapter from elsewhere.
    pub recipe: String,
    /// Measurements, oldest first.
    pub figures: Vec<Figure>,
    /// Changes of status, oldest first.
    pub history: Vec<StatusChange>,
}

impl Figure {
    /// Creates a measurement with the present time and without a comparison.
    pub fn new(occasion: Occasion, candidate: [u64; 2], reason: impl Into<String>) -> Self {
        Self { occasion, at: Utc::now(), candidate, incumbent: None, p: None, decision: None, reason: reason.into() }
    }
}

impl Record {
    /// Returns the latest figure of an occasion.
    pub fn figure(&self, occasion: Occasion) -> Option<&Figure> {
        self.figures.iter().rev().find(|figure| figure.occasion == occasion)
    }

    /// Returns its last promotion; `None` if it was never promoted.
    pub fn promotion(&self) -> Option<&StatusChange> {
        self.history.iter().rev().find(|change| change.status == Status::Promoted)
    }
}

/// The result of taking one generation out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// It was taken out of service.
    Done {
        /// The generation that serves instead; `None` is the base.
        serving: Option<String>,
    },
    /// It did not serve, and nothing was changed.
    NotServing {
        /// The generation that serves; `None` is the base.
        serving: Option<String>,
    },
}

/// The generation that the caller of a promotion expects to be in service. If another one serves, the promotion is refused, so that a
/// change that the caller has not seen is not overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incumbent<'a> {
    /// Any generation: the promotion is a person's choice.
    Any,
    /// The base, without an adapter.
    Base,
    /// This generation.
    Generation(&'a str),
}

/// Keeps generations, and which of them serves on each base model. Changes are atomic, even if the process dies.
#[async_trait]
pub trait AdapterRegistry: Send + Sync {
    /// Copies an adapter directory and registers it as a candidate for the base that `base` describes (the adapter of `base` is ignored).
    /// The same adapter for the same base is the same generation, whose existing record is returned.
    async fn register(&self, directory: &Path, base: &Generation) -> Result<Record>;
    /// Returns all generations, newest first.
    async fn list(&self) -> Result<Vec<Record>>;
    /// Returns a generation by its id or a unique beginning of its id; `None` if there is none, or more than one.
    async fn get(&self, id: &str) -> Result<Option<Record>>;
    /// Returns the directory with a generation's files.
    fn directory(&self, id: &str) -> PathBuf;
    /// Adds a measurement to a generation's record.
    async fn measured(&self, id: &str, figure: Figure) -> Result<Record>;
    /// Sets the status of a generation that does not serve. To put one into service or take it out, use [`promote`](Self::promote) and
    /// [`rollback`](Self::rollback).
    async fn set_status(&self, id: &str, status: Status, reason: &str) -> Result<Record>;
    /// Puts a generation into service. This is refused if it is quarantined, or if the generation in service is not the one that the caller
    /// expects.
    async fn promote(&self, id: &str, incumbent: Incumbent<'_>, reason: &str) -> Result<Record>;
    /// Takes the serving generation on these base weights out of service and restores the latest earlier one that is still good; `None` is
    /// the base.
    async fn rollback(&self, base: &Generation, reason: &str) -> Result<Option<Record>>;
    /// Does the same as [`rollback`](Self::rollback), but only if this generation serves. It is for callers that decided from measurements
    /// of this generation.
    async fn rollback_of(&self, base: &Generation, id: &str, reason: &str) -> Result<Rollback>;
    /// Returns the generation that a rollback on these base weights would restore; `None` is the base.
    async fn previous(&self, base: &Generation) -> Result<Option<Record>>;
    /// Returns the generation in service on these base weights; `None` is the base itself.
    async fn current(&self, base: &Generation) -> Result<Option<Record>>;
}

/// The name of the file in an adapter directory that contains its [`Probes`].
pub const PROBES: &str = "probes.json";

/// The name of the file in an adapter directory that says what the adapter was trained on.
const LINEAGE: &str = "lineage.json";

/// Reads the probes in an adapter directory; `None` if there are none.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read_probes(adapter: &Path) -> Result<Option<Probes>> {
    files::read_json(&adapter.join(PROBES))
}

/// Makes a running engine serve the generation that the registry has in service, after a promotion or a rollback. Returns the new
/// generation; `None` if the engine served it already.
///
/// # Errors
/// The adapter differs from the registered one, or fails its proof; the engine then continues to serve the old generation.
pub async fn sync_engine(registry: &dyn AdapterRegistry, engine: &dyn GenerationEngine) -> Result<Option<Generation>> {
    let now = engine.generation();
    match registry.current(&now).await? {
        None if now.adapter.is_none() => Ok(None),
        None => engine.serve_base().await.map(Some),
        Some(record) if record.id == now.id() => Ok(None),
        Some(record) => {
            let adapter = registry.directory(&record.id);
            let found = Generation { adapter: Some(adapter_hash(&adapter)?), ..now };
            if !found.has_hashes_of(&record.generation) {
                let fix = "restart with the model and files it was registered with, or run `milepost adapters rollback`";
                return Err(Error::file(&adapter, format!("is not what was registered as generation {}: {fix}", record.id)));
            }
            engine.swap(&adapter, &read_probes(&adapter)?.unwrap_or_default()).await.map(Some)
        }
    }
}

/// An adapter's statement of what it was trained on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lineage {
    base: String,
    tokenizer: String,
    template: String,
    prompts: String,
    parent: Option<String>,
    recipe: String,
}

impl Lineage {
    fn read(adapter: &Path) -> Result<Self> {
        Ok(files::read_json(&adapter.join(LINEAGE))?.unwrap_or_default())
    }

    /// Checks that an adapter was trained on this base; properties that the lineage leaves out are not checked.
    fn check(&self, adapter: &Path, base: &Generation) -> Result<()> {
        let claims = [
            ("base weights", &self.base, base.weights()),
            ("tokenizer", &self.tokenizer, &base.tokenizer),
            ("chat template", &self.template, &base.chat_template),
            ("prompt templates", &self.prompts, &base.prompts),
        ];
        match claims.into_iter().find(|(_, claimed, real)| !claimed.is_empty() && claimed != real) {
            None => Ok(()),
            Some((what, claimed, real)) => Err(Error::file(
                adapter,
                format!(
                    "was trained on {what} {claimed}, but these are {real}: use the model that it belongs to, or train it again on this one"
                ),
            )),
        }
    }
}
