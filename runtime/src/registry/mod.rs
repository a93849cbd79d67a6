//! Where generations of adapters are kept: a trait, and a directory as the embedded default.

mod directory;
mod files;
mod pointer;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use directory::{DirectoryRegistry, UpdaterLock};

use crate::call::Generation;
use crate::error::{Error, Result};
use crate::hash::adapter_hash;
use crate::traits::{Engine, Probes};

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Trained, not decided.
    Candidate,
    /// Was put into service; whether it still serves, [`AdapterRegistry::current`] says.
    Promoted,
    /// Refused: worse, broken, or not what was trained.
    Quarantined,
    /// Neither better nor worse could be shown.
    Inconclusive,
    /// Served, and was taken out again.
    RolledBack,
}

impl Status {
    /// The status's word.
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
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Of a promotion: whether it was a person's choice over whatever served, and no comparison's verdict; `None` where nobody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<bool>,
}

/// When a figure was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// By the gate, on validation tasks.
    Gate,
    /// Again on other tasks, where the gate's own figure is too good by selection.
    Remeasured,
    /// On the share of live traffic that tries it.
    Canary,
    /// In service.
    Live,
}

/// A measurement of a generation, against the incumbent where there was one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// When it was measured.
    pub occasion: Occasion,
    /// When, by the clock.
    pub at: DateTime<Utc>,
    /// Tasks that this generation solved, of how many.
    pub candidate: [u64; 2],
    /// Tasks that the incumbent solved, of how many.
    pub incumbent: Option<[u64; 2]>,
    /// p-value of the test behind the decision.
    pub p: Option<f64>,
    /// What was decided on it.
    pub decision: Option<Status>,
    /// Why.
    pub reason: String,
}

/// Everything that is known of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id: that of its [`Generation`].
    pub id: String,
    /// Its hashes, and its parent's id.
    #[serde(flatten)]
    pub generation: Generation,
    /// What became of it.
    pub status: Status,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The recipe that made it; empty for an adapter from elsewhere.
    pub recipe: String,
    /// Measurements, oldest first.
    pub figures: Vec<Figure>,
    /// Changes of status, oldest first.
    pub history: Vec<StatusChange>,
}

impl Figure {
    /// A count of now, with nothing to compare it with.
    pub fn new(occasion: Occasion, candidate: [u64; 2], reason: impl Into<String>) -> Self {
        Self { occasion, at: Utc::now(), candidate, incumbent: None, p: None, decision: None, reason: reason.into() }
    }
}

impl Record {
    /// The latest figure of an occasion.
    pub fn figure(&self, occasion: Occasion) -> Option<&Figure> {
        self.figures.iter().rev().find(|figure| figure.occasion == occasion)
    }

    /// How it came into service the last time; `None` where it never did.
    pub fn promotion(&self) -> Option<&StatusChange> {
        self.history.iter().rev().find(|change| change.status == Status::Promoted)
    }
}

/// What became of taking one generation out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// It went out of service.
    Done {
        /// What serves instead; `None` is the base.
        serving: Option<String>,
    },
    /// It did not serve, so that nothing was changed.
    NotServing {
        /// What does serve; `None` is the base.
        serving: Option<String>,
    },
}

/// What must serve at the moment of a promotion, so that nobody promotes over a change that he has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over<'a> {
    /// Whatever serves: a person's choice.
    Anything,
    /// The base, without an adapter.
    Base,
    /// This generation.
    Generation(&'a str),
}

/// Keeps generations and knows which one serves, for each base model. A change is there whole or not at all, whenever the process dies.
#[async_trait]
pub trait AdapterRegistry: Send + Sync {
    /// Takes a copy of an adapter directory as a candidate for the base that `base` describes (its adapter is not looked at). The same
    /// adapter for the same base is the same generation: it is found as it is.
    async fn register(&self, directory: &Path, base: &Generation) -> Result<Record>;
    /// All generations, newest first.
    async fn list(&self) -> Result<Vec<Record>>;
    /// One generation by id or unique beginning of one; `None` where there is none, or several.
    async fn get(&self, id: &str) -> Result<Option<Record>>;
    /// Where a generation's files lie.
    fn directory(&self, id: &str) -> PathBuf;
    /// Adds a measurement.
    async fn measured(&self, id: &str, figure: Figure) -> Result<Record>;
    /// Decides about a generation that does not serve; into service and out of it lead [`promote`](Self::promote) and [`rollback`](Self::rollback).
    async fn set_status(&self, id: &str, status: Status, reason: &str) -> Result<Record>;
    /// Puts a generation into service; refused where it is quarantined, or where something else serves than the caller believes.
    async fn promote(&self, id: &str, over: Over<'_>, reason: &str) -> Result<Record>;
    /// Takes what serves on these base weights out of service and puts back what served before and is still good; `None` is the base.
    async fn rollback(&self, base: &Generation, reason: &str) -> Result<Option<Record>>;
    /// The same, as long as this generation is what serves there: for whoever decided on what has been measured of it.
    async fn rollback_of(&self, base: &Generation, id: &str, reason: &str) -> Result<Rollback>;
    /// What a rollback on these base weights would put back; `None` is the base.
    async fn previous(&self, base: &Generation) -> Result<Option<Record>>;
    /// What serves on these base weights; `None` is the base itself.
    async fn current(&self, base: &Generation) -> Result<Option<Record>>;
}

/// The file beside an adapter that holds its [`Probes`].
pub const PROBES: &str = "probes.json";

/// Reads the probes beside an adapter; `None` where there are none.
///
/// # Errors
/// A file that is no probes.
pub fn read_probes(adapter: &Path) -> Result<Option<Probes>> {
    files::read_json(&adapter.join(PROBES))
}

/// Brings a running engine to what should serve on its base, where that is something else: after a promotion or a rollback, by whomever.
/// Gives the new generation, `None` where nothing had to change.
///
/// # Errors
/// An adapter that is not what was registered, or fails its proof; the engine then goes on with what it served.
pub async fn follow(registry: &dyn AdapterRegistry, engine: &dyn Engine) -> Result<Option<Generation>> {
    let now = engine.generation();
    match registry.current(&now).await? {
        None if now.adapter.is_none() => Ok(None),
        None => engine.serve_base().await.map(Some),
        Some(record) if record.id == now.id() => Ok(None),
        Some(record) => {
            let adapter = registry.directory(&record.id);
            if (Generation { adapter: Some(adapter_hash(&adapter)?), ..now }).id() != record.id {
                let fix = "restart with the model and files it was registered with, or run `milepost adapters rollback`";
                return Err(Error::file(&adapter, format!("is not what was registered as generation {}: {fix}", record.id)));
            }
            engine.swap(&adapter, &read_probes(&adapter)?.unwrap_or_default()).await.map(Some)
        }
    }
}

/// What an adapter says of itself, in `lineage.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claim {
    base: String,
    tokenizer: String,
    template: String,
    prompts: String,
    parent: Option<String>,
    recipe: String,
}

impl Claim {
    fn read(adapter: &Path) -> Result<Self> {
        Ok(files::read_json(&adapter.join("lineage.json"))?.unwrap_or_default())
    }

    /// Refuses an adapter that was trained for something else; what is not claimed is not checked.
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
