//! A canary: a new generation serves a share of the live tasks first, and all of them only when their verified outcomes hold what its
//! validation promised.
//!
//! The model is held twice meanwhile. What the registry says decides: a generation that was promoted by whoever trains opens a canary here, a
//! promotion by a person through the daemon does not, and a canary that breaks its bound is rolled back before it ever served alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use milepost_learners::gate::{Breach, LiveBound, LiveConfig};
use milepost_runtime::registry::{Figure, Occasion, Record};
use milepost_runtime::{AdapterRegistry, Error};
use milepost_text::hash16;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::metered::MeteredEngine;
use crate::config::{AdapterChoice, Config};
use crate::wiring::Mind;

/// How a new generation is tried on live tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// Share of the tasks that it gets, above 0 and below 1.
    pub share: f64,
    /// Verified outcomes after which it serves all.
    pub tasks: u64,
    /// After so many hours the gate's verdict stands, however few outcomes were verified.
    pub hours: f64,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { share: 0.2, tasks: 20, hours: 24.0 }
    }
}

impl CanaryConfig {
    /// Refuses what is no trial.
    ///
    /// # Errors
    /// A share that is none, or no outcome to wait for.
    pub fn check(&self) -> Result<(), Error> {
        let sound = self.share > 0.0 && self.share < 1.0 && self.tasks > 0 && self.hours > 0.0;
        let text = "`serve.canary`: share lies between 0 and 1, tasks and hours are above 0; null is for none";
        if sound { Ok(()) } else { Err(Error::BadInput(text.into())) }
    }
}

/// A canary as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CanaryStatus {
    /// The generation on trial.
    pub generation: String,
    /// What serves the other tasks; null is the base model.
    pub incumbent: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Verified live tasks that it solved, of how many.
    pub live: [u64; 2],
}

/// What is written down of a trial.
#[derive(Clone, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    status: CanaryStatus,
    bound: LiveBound,
}

/// A trial in progress.
struct Trial {
    mind: Arc<Mind>,
    noted: Mutex<Noted>,
}

/// Tries new generations on a share of the tasks.
pub struct Canary {
    config: Option<CanaryConfig>,
    live: LiveConfig,
    file: PathBuf,
    trial: RwLock<Option<Arc<Trial>>>,
}

/// What became of the generation that should serve.
pub(super) enum Taken {
    /// It is on trial: what serves goes on.
    OnTrial,
    /// There is none to try: it serves all, or did already.
    ByAll,
}

impl Canary {
    /// No trial yet; one that a restart cut off goes on at the first look at the registry.
    pub fn new(config: &Config, home: &Path) -> Self {
        let own = config.base().is_some() && config.adapter == AdapterChoice::Current;
        let wanted = config.serve.canary.clone().filter(|_| own);
        let live = config.serve.live.clone().unwrap_or_default();
        Self { config: wanted, live, file: home.join(FILE), trial: RwLock::default() }
    }

    /// How the trial stands.
    pub fn status(&self) -> Option<CanaryStatus> {
        self.trial().map(|trial| trial.noted().status.clone())
    }

    /// The model for a task: the same at each of its attempts.
    pub(super) fn mind(&self, task: &str, otherwise: &Arc<Mind>) -> Arc<Mind> {
        let share = self.config.as_ref().map_or(0.0, |config| config.share);
        match self.trial() {
            Some(trial) if lot(task) < share => trial.mind.clone(),
            _ => otherwise.clone(),
        }
    }

    fn trial(&self) -> Option<Arc<Trial>> {
        self.trial.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether what should serve is to be tried first; whoever calls has the turn to change what serves.
    pub(super) async fn take(&self, app: &App) -> Result<Taken> {
        let Some(config) = &self.config else { return Ok(Taken::ByAll) };
        let serving = app.mind.engine.generation();
        let wanted = app.registry.current(&serving).await?.filter(|wanted| wanted.id != serving.id());
        let trial = self.trial();
        let on_trial = trial.as_ref().map(|trial| trial.noted().status.clone());
        match (wanted, on_trial) {
            (None, None) => Ok(Taken::ByAll),
            (None, Some(_)) => {
                // Somebody went back to what serves.
                self.close();
                Ok(Taken::ByAll)
            }
            (Some(wanted), Some(status)) if wanted.id == status.generation => {
                let over = status.live[1] >= config.tasks || Utc::now() - status.since >= hours(config.hours);
                if !over {
                    return Ok(Taken::OnTrial);
                }
                tracing::info!(generation = wanted.id, solved = status.live[0], of = status.live[1], "the canary holds; it serves all");
                app.registry.measured(&wanted.id, Figure::new(Occasion::Canary, status.live, "it held its bound".to_owned())).await?;
                self.close();
                Ok(Taken::ByAll)
            }
            (Some(wanted), _) => self.open(app, &wanted).await,
        }
    }

    /// Loads the generation beside what serves, proved, and gives it its share.
    async fn open(&self, app: &App, wanted: &Record) -> Result<Taken> {
        // Without a validation there is no bound to hold: what was promoted by hand serves.
        let Some(validated) = wanted.figure(Occasion::Gate).map(|figure| figure.candidate) else {
            self.close();
            return Ok(Taken::ByAll);
        };
        let before = self.read().filter(|noted| noted.status.generation == wanted.id);
        let choice = Config { adapter: AdapterChoice::Named(wanted.id.clone()), ..app.config.clone() };
        let mind = Mind::load(&choice).await?.through(|engine| Arc::new(MeteredEngine::new(engine, app.config.model())));
        let serving = app.mind.engine.generation();
        let status = CanaryStatus {
            generation: wanted.id.clone(),
            incumbent: serving.adapter.as_ref().map(|_| serving.id()),
            since: Utc::now(),
            live: [0, 0],
        };
        let noted = match before {
            Some(before) => before,
            None => Noted { status, bound: LiveBound::new(self.live.clone(), validated)? },
        };
        self.write(&noted)?;
        tracing::info!(generation = wanted.id, "a canary: it serves a share of the tasks");
        let trial = Trial { mind: Arc::new(mind), noted: Mutex::new(noted) };
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(trial));
        Ok(Taken::OnTrial)
    }

    /// Takes in a verified outcome of a generation's task; gives the breach of its bound.
    pub(super) fn outcome(&self, generation: &str, success: bool) -> Option<(CanaryStatus, Breach)> {
        let trial = self.trial()?;
        let mut noted = trial.noted();
        if noted.status.generation != generation {
            return None;
        }
        let [solved, of] = noted.status.live;
        noted.status.live = [solved + u64::from(success), of + 1];
        let breach = noted.bound.record(success);
        if let Err(error) = self.write(&noted) {
            tracing::warn!(error = format!("{error:#}"), "the canary was not written down");
        }
        breach.map(|breach| (noted.status.clone(), breach))
    }

    /// Ends the trial; tasks that run on it come to their end.
    pub(super) fn close(&self) {
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = std::fs::remove_file(&self.file);
    }

    fn write(&self, noted: &Noted) -> Result<()> {
        let text = serde_json::to_vec(noted)?;
        std::fs::write(&self.file, text).with_context(|| format!("{} cannot be written", self.file.display()))
    }

    fn read(&self) -> Option<Noted> {
        serde_json::from_slice(&std::fs::read(&self.file).ok()?).ok()
    }
}

impl Trial {
    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FILE: &str = "canary.json";

/// A task's place between 0 and 1.
fn lot(task: &str) -> f64 {
    u64::from_str_radix(&hash16(task.as_bytes()), 16).map_or(1.0, |hash| hash as f64 / u64::MAX as f64)
}

fn hours(hours: f64) -> TimeDelta {
    TimeDelta::milliseconds((hours * 3_600_000.0) as i64)
}

/// The adapter that serves at a start: the incumbent of a canary that a restart cut off, as long as what was on trial should serve.
pub(super) async fn at_start(config: &Config, home: &Path, registry: &dyn AdapterRegistry) -> Result<AdapterChoice> {
    let noted = std::fs::read(home.join(FILE)).ok().and_then(|text| serde_json::from_slice::<Noted>(&text).ok());
    let (Some(noted), Some(_)) = (noted, &config.serve.canary) else { return Ok(config.adapter.clone()) };
    if config.adapter != AdapterChoice::Current || config.base().is_none() {
        return Ok(config.adapter.clone());
    }
    let current = registry.current(&crate::serving::base(config)?).await?;
    if current.is_none_or(|current| current.id != noted.status.generation) {
        return Ok(config.adapter.clone());
    }
    Ok(noted.status.incumbent.map_or(AdapterChoice::None, AdapterChoice::Named))
}
