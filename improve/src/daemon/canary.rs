//! A canary: a new generation serves a share of the live tasks first, and all tasks only if their verified outcomes do not fall below its
//! validation result.
//!
//! Both models are loaded during a trial. The registry decides about trials: a generation that the loop promoted is put on trial, even if it was
//! promoted while the daemon did not run; a generation that a person promoted is not. A canary that breaks its bound is rolled back before it
//! serves all tasks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use milepost_learners::files;
use milepost_runtime::hash::hash16;
use milepost_runtime::registry::{AdapterChoice, Figure, Occasion, Record, Rollback, Status};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Generation, GenerationEngine};
use serde::{Deserialize, Serialize};

use super::trial_bound::TrialBound;
use crate::error::{Error, Result};
use crate::gate::{Breach, LiveConfig};

/// The file in the daemon's directory that records a trial.
const FILE: &str = "canary.json";

/// How a new generation is tried on live tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// The share of the tasks that the new generation gets, above 0 and below 1.
    pub share: f64,
    /// The number of verified outcomes after which the new generation serves all tasks; up to five times as many if fewer could not show a fall.
    pub tasks: u64,
    /// The number of hours after which the trial ends, however few outcomes were verified.
    pub hours: f64,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { share: 0.2, tasks: 20, hours: 24.0 }
    }
}

impl CanaryConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The share is not between 0 and 1, or `tasks` or `hours` is 0.
    pub fn check(&self) -> Result<()> {
        let sound = self.share > 0.0 && self.share < 1.0 && self.tasks > 0 && self.hours > 0.0;
        let text = "`serve.canary`: share lies between 0 and 1, tasks and hours are above 0; null is for none";
        if sound { Ok(()) } else { Err(Error::bad_input(text)) }
    }
}

/// The state of a canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CanaryStatus {
    /// The generation on trial.
    pub generation: String,
    /// The generation that serves the other tasks; null is the base model.
    pub incumbent: Option<String>,
    /// When the trial began.
    pub since: DateTime<Utc>,
    /// The number of solved live tasks on trial, and the number of verified ones.
    pub live: [u64; 2],
    /// The number of verified live tasks after which the generation serves all tasks; more than `serve.canary.tasks` if fewer could not show a fall.
    pub until: u64,
    /// The largest number of solved tasks, of `until`, with which the generation is rolled back; null if its validation promised so little that no
    /// result could show a fall.
    pub fails_at: Option<u64>,
}

impl CanaryStatus {
    /// Logs that the trial begins, and that it takes longer than configured or cannot fail.
    fn log_begin(&self, asked: u64) {
        let (generation, until) = (&self.generation, self.until);
        tracing::info!(generation, until, "a canary: it serves a share of the tasks");
        if self.fails_at.is_none() {
            tracing::warn!(generation, until, "its validation promised so little that no fall can be shown: this trial takes nothing back");
        } else if until > asked {
            tracing::warn!(generation, asked, until, "fewer outcomes could not show a fall below its validation: the trial takes more");
        }
    }
}

/// Holds the model of a generation on trial beside the one in service.
#[async_trait]
pub trait TrialModel: Send + Sync {
    /// Loads the model with this adapter, and proves the adapter on its probes.
    ///
    /// # Errors
    /// The model cannot be loaded, or the adapter fails its proof.
    async fn load(&self, adapter: AdapterChoice) -> Result<()>;

    /// Releases the model; tasks that run on it are finished first.
    fn unload(&self);
}

/// The record of a trial that survives a restart.
#[derive(Clone, Serialize, Deserialize)]
struct TrialRecord {
    #[serde(flatten)]
    status: CanaryStatus,
    bound: TrialBound,
    /// How the generation broke its bound, if it did; it is then about to be rolled back.
    breach: Option<Breach>,
}

/// The result of a check of the registry.
pub(super) enum Decision {
    /// The new generation is on trial, and the engine keeps the incumbent.
    OnTrial,
    /// There is nothing to try, so that the generation that the registry names serves all tasks.
    ServesAll,
}

/// Tries new generations on a share of the tasks.
pub(super) struct Canary {
    config: Option<CanaryConfig>,
    live: LiveConfig,
    file: PathBuf,
    model: Arc<dyn TrialModel>,
    trial: RwLock<Option<Arc<Mutex<TrialRecord>>>>,
}

fn lock(trial: &Mutex<TrialRecord>) -> MutexGuard<'_, TrialRecord> {
    trial.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Canary {
    /// Creates a canary without a trial. A trial that a restart interrupted continues at the first check of the registry.
    pub(super) fn new(config: Option<CanaryConfig>, live: LiveConfig, model: Arc<dyn TrialModel>, directory: &Path) -> Self {
        Self { config, live, file: directory.join(FILE), model, trial: RwLock::default() }
    }

    /// Returns the state of the trial.
    pub(super) fn status(&self) -> Option<CanaryStatus> {
        self.record().map(|record| record.status)
    }

    /// Returns whether the generation on trial gets this task; the answer is the same for each attempt at a task.
    pub(super) fn gets(&self, task: &str) -> bool {
        let share = self.config.as_ref().map_or(0.0, |config| config.share);
        self.trial().is_some() && position(task) < share
    }

    fn trial(&self) -> Option<Arc<Mutex<TrialRecord>>> {
        self.trial.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self) -> Option<TrialRecord> {
        self.trial().map(|trial| lock(&trial).clone())
    }

    /// Checks whether the generation that the registry names has to be tried first. The caller holds the lock on the generation in service.
    pub(super) async fn check(&self, engine: &dyn GenerationEngine, registry: &DirectoryRegistry) -> Result<Decision> {
        let Some(config) = &self.config else { return Ok(Decision::ServesAll) };
        let serving = engine.generation();
        let wanted = registry.current(&serving).await?.filter(|wanted| wanted.id != serving.id());
        let record = self.record();
        let Some(wanted) = wanted else {
            if record.is_some() {
                // A person went back to the incumbent, or put the generation on trial into service.
                self.close();
            }
            return Ok(Decision::ServesAll);
        };
        match (promised(&wanted), record) {
            (None, _) => {
                self.close();
                Ok(Decision::ServesAll)
            }
            (Some(_), Some(record)) if record.status.generation == wanted.id => self.judge(&serving, registry, config, &record).await,
            (Some(validated), _) => self.open(&serving, registry, config, &wanted, validated).await,
        }
    }

    /// Checks whether the trial is over, and ends it if it is.
    async fn judge(
        &self,
        serving: &Generation,
        registry: &DirectoryRegistry,
        config: &CanaryConfig,
        record: &TrialRecord,
    ) -> Result<Decision> {
        let status = &record.status;
        let all = status.live[1] >= status.until;
        let over = all || Utc::now() - status.since >= hours(config.hours);
        let breach = record.breach.clone().or_else(|| if over { record.bound.test(status.live) } else { None });
        if let Some(breach) = breach {
            self.roll_back(serving, registry, status, &breach).await?;
            return Ok(Decision::OnTrial);
        }
        if !over {
            return Ok(Decision::OnTrial);
        }
        let why = match (status.fails_at, all) {
            (None, _) => "its validation promised too little for a fall to be shown",
            (Some(_), true) => "it held its bound",
            (Some(_), false) => "its time was over and no fall was shown",
        };
        tracing::info!(generation = status.generation, solved = status.live[0], of = status.live[1], why, "the canary serves all");
        registry.measured(&status.generation, Figure::new(Occasion::Canary, status.live, why)).await?;
        self.close();
        Ok(Decision::ServesAll)
    }

    /// Loads and proves the generation beside the one in service, and starts its trial.
    async fn open(
        &self,
        serving: &Generation,
        registry: &DirectoryRegistry,
        config: &CanaryConfig,
        wanted: &Record,
        validated: [u64; 2],
    ) -> Result<Decision> {
        let incumbent = serving.adapter.as_ref().map(|_| serving.id());
        if let Some(id) = &incumbent
            && registry.get(id).await?.is_some_and(|record| record.status == Status::RolledBack)
        {
            // The generation in service was rolled back, so it cannot be the incumbent of a trial.
            self.close();
            return Ok(Decision::ServesAll);
        }
        let before = read(&self.file).filter(|record| record.status.generation == wanted.id);
        if let Some(TrialRecord { status, breach: Some(breach), .. }) = &before {
            // The daemon ended between the breach and the rollback.
            self.roll_back(serving, registry, status, breach).await?;
            return Ok(Decision::OnTrial);
        }
        self.model.load(AdapterChoice::Named(wanted.id.clone())).await?;
        let record = match before {
            Some(before) => before,
            None => {
                let bound = TrialBound::new(&self.live, config.tasks, validated)?;
                let (until, fails_at) = (bound.until(), bound.fails_at());
                let status = CanaryStatus { generation: wanted.id.clone(), incumbent, since: Utc::now(), live: [0, 0], until, fails_at };
                TrialRecord { status, bound, breach: None }
            }
        };
        self.write(&record)?;
        record.status.log_begin(config.tasks);
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Mutex::new(record)));
        Ok(Decision::OnTrial)
    }

    /// Counts a verified outcome of a generation's task. Returns whether the generation has broken the bound of the trial.
    pub(super) fn outcome(&self, generation: &str, success: bool) -> bool {
        let Some(trial) = self.trial() else { return false };
        let mut record = lock(&trial);
        let [solved, of] = record.status.live;
        if record.status.generation != generation || record.breach.is_some() || of >= record.status.until {
            return false;
        }
        record.status.live = [solved + u64::from(success), of + 1];
        record.breach = record.bound.look(record.status.live);
        if let Err(error) = self.write(&record) {
            tracing::warn!(error = error.with_causes(), "the canary was not written down");
        }
        record.breach.is_some()
    }

    /// Rolls the generation on trial back if it broke its bound; the incumbent stays in service. The caller holds the lock on the
    /// generation in service.
    pub(super) async fn roll_back_breach(&self, engine: &dyn GenerationEngine, registry: &DirectoryRegistry) {
        let Some(record) = self.record() else { return };
        let Some(breach) = &record.breach else { return };
        if let Err(error) = self.roll_back(&engine.generation(), registry, &record.status, breach).await {
            let error = error.with_causes();
            tracing::error!(error, "it could not be rolled back yet; `milepost adapters rollback` does it by hand");
        }
    }

    /// Rolls back a generation that broke its bound, unless it has already been replaced.
    async fn roll_back(&self, serving: &Generation, registry: &DirectoryRegistry, status: &CanaryStatus, breach: &Breach) -> Result<()> {
        match registry.rollback_of(serving, &status.generation, &breach.reason).await? {
            Rollback::Done { .. } => {
                tracing::warn!(generation = status.generation, reason = breach.reason, "the canary is rolled back");
                metrics::counter!("milepost_rollbacks_total").increment(1);
                registry.measured(&status.generation, Figure::new(Occasion::Canary, breach.live, breach.reason.clone())).await?;
            }
            Rollback::NotServing { serving } => {
                let serving = serving.as_deref().unwrap_or("the base");
                tracing::info!(generation = status.generation, serving, "the canary broke its bound, and was replaced already");
            }
        }
        self.close();
        Ok(())
    }

    /// Ends the trial.
    fn close(&self) {
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.model.unload();
        let _ = std::fs::remove_file(&self.file);
    }

    fn write(&self, record: &TrialRecord) -> Result<()> {
        Ok(files::replace(&self.file, &serde_json::to_vec(record)?)?)
    }
}

fn read(file: &Path) -> Option<TrialRecord> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Returns the gate's figure that a generation has to hold on trial: the number of solved validation tasks, and the number of validation
/// tasks. Returns `None` if the generation needs no trial, because a person promoted it, it passed no gate, or a trial has ended since its
/// promotion.
fn promised(record: &Record) -> Option<[u64; 2]> {
    let promotion = record.promotion().filter(|promotion| promotion.by_hand == Some(false))?;
    let tried = record.figure(Occasion::Canary).is_some_and(|figure| figure.at >= promotion.at);
    record.figure(Occasion::Gate).filter(|_| !tried).map(|figure| figure.candidate)
}

/// Returns a task's position between 0 and 1, by the hash of its id.
fn position(task: &str) -> f64 {
    u64::from_str_radix(&hash16(task.as_bytes()), 16).map_or(1.0, |hash| hash as f64 / u64::MAX as f64)
}

fn hours(hours: f64) -> TimeDelta {
    TimeDelta::milliseconds((hours * 3_600_000.0) as i64)
}

/// Chooses the adapter that serves when the daemon starts, if the configuration asks for the registry's current one and for canaries.
///
/// A current generation that has yet to be tried does not serve alone. The incumbent of a trial that a restart interrupted serves instead, or else
/// the generation before the current one, if `loads` can load it; the trial then starts at the first check of the registry.
///
/// # Errors
/// The registry cannot be read.
pub async fn adapter_at_start(
    directory: &Path,
    registry: &DirectoryRegistry,
    base: &Generation,
    loads: impl AsyncFnOnce(AdapterChoice) -> Result<()>,
) -> Result<AdapterChoice> {
    if !registry.root().is_dir() {
        return Ok(AdapterChoice::Current);
    }
    let file = directory.join(FILE);
    let current = registry.current(base).await?;
    let record = read(&file).filter(|record| current.as_ref().is_some_and(|current| current.id == record.status.generation));
    let Some(current) = current.filter(|current| promised(current).is_some()) else {
        // The trial that the file records is over.
        let _ = std::fs::remove_file(file);
        return Ok(AdapterChoice::Current);
    };
    let choice = |id: Option<String>| id.map_or(AdapterChoice::None, AdapterChoice::Named);
    if let Some(record) = record {
        return Ok(choice(record.status.incumbent));
    }
    let before = choice(registry.previous(base).await?.map(|record| record.id));
    if before != AdapterChoice::None
        && let Err(error) = loads(before.clone()).await
    {
        let (generation, error) = (&current.id, error.with_causes());
        tracing::warn!(generation, error, "what served before cannot be loaded: this generation serves all, untried");
        return Ok(AdapterChoice::Current);
    }
    tracing::info!(generation = current.id, before = %String::from(before.clone()), "it has not been tried yet: what served before starts");
    Ok(before)
}

#[cfg(test)]
mod tests {
    use milepost_runtime::registry::StatusChange;

    use super::*;

    fn check_promised(by_hand: bool, occasions: &[(Occasion, i64)], expected: Option<[u64; 2]>) {
        let at = Utc::now();
        let promotion = StatusChange { status: Status::Promoted, at, reason: String::new(), by_hand: Some(by_hand) };
        let figure = |(occasion, minutes): &(Occasion, i64)| Figure {
            at: at + TimeDelta::minutes(*minutes),
            ..Figure::new(*occasion, [7, 10], "of this test")
        };
        let record = Record {
            id: "a".into(),
            generation: Generation::default(),
            status: Status::Promoted,
            created_at: at,
            recipe: String::new(),
            figures: occasions.iter().map(figure).collect(),
            history: vec![promotion],
        };
        assert_eq!(promised(&record), expected, "{occasions:?}");
    }

    #[test]
    fn a_generation_that_the_gate_promoted_is_tried_once() {
        check_promised(false, &[(Occasion::Gate, -1)], Some([7, 10]));
        check_promised(true, &[(Occasion::Gate, -1)], None);
        check_promised(false, &[], None);
        check_promised(false, &[(Occasion::Gate, -1), (Occasion::Canary, 1)], None);
        check_promised(false, &[(Occasion::Canary, -2), (Occasion::Gate, -1)], Some([7, 10]));
    }
}
