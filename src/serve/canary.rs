//! A canary: a new generation serves a share of the live tasks first, and all of them only when their verified outcomes hold what its
//! validation promised.
//!
//! The model is held twice meanwhile. What the registry says decides: a generation that was promoted by whoever trains opens a canary here, also
//! where that was while the daemon did not run; a person's promotion does not, and a canary that breaks its bound is rolled back before it ever
//! served alone.

mod bound;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use milepost_learners::files;
use milepost_learners::gate::{Breach, LiveConfig};
use milepost_runtime::registry::{Figure, Occasion, Record, Rollback, Status};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Error};
use milepost_text::hash16;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::bound::TrialBound;
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
    /// Verified outcomes after which it serves all; up to five times as many where fewer could not show a fall.
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
    /// Verified live tasks after which it serves all; more than `serve.canary.tasks` where fewer could not show a fall.
    pub until: u64,
    /// With so few of them solved it is taken back; null where its validation promised so little that not even none would show a fall.
    pub fails_at: Option<u64>,
}

/// What is written down of a trial.
#[derive(Clone, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    status: CanaryStatus,
    bound: TrialBound,
    /// How it broke its bound; it is about to be rolled back.
    breach: Option<Breach>,
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
        self.noted().map(|noted| noted.status)
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

    fn noted(&self) -> Option<Noted> {
        self.trial().map(|trial| trial.noted().clone())
    }

    /// Looks whether what should serve is to be tried first; whoever calls has the turn to change what serves.
    pub(super) async fn take(&self, app: &App) -> Result<Taken> {
        let Some(config) = &self.config else { return Ok(Taken::ByAll) };
        let serving = app.mind.engine.generation();
        let wanted = app.registry.current(&serving).await?.filter(|wanted| wanted.id != serving.id());
        let noted = self.noted();
        let Some(wanted) = wanted else {
            if noted.is_some() {
                // Somebody went back to what serves, or put what was on trial into service.
                self.close();
            }
            return Ok(Taken::ByAll);
        };
        match (promised(&wanted), noted) {
            (None, _) => {
                self.close();
                Ok(Taken::ByAll)
            }
            (Some(_), Some(noted)) if noted.status.generation == wanted.id => self.judge(app, config, &noted).await,
            (Some(validated), _) => self.open(app, config, &wanted, validated).await,
        }
    }

    /// Looks whether the trial is over, and how it ended.
    async fn judge(&self, app: &App, config: &CanaryConfig, noted: &Noted) -> Result<Taken> {
        let status = &noted.status;
        let all = status.live[1] >= status.until;
        let over = all || Utc::now() - status.since >= hours(config.hours);
        let breach = noted.breach.clone().or_else(|| if over { noted.bound.test(status.live) } else { None });
        if let Some(breach) = breach {
            self.take_back(app, status, &breach).await?;
            return Ok(Taken::OnTrial);
        }
        if !over {
            return Ok(Taken::OnTrial);
        }
        let why = match (status.fails_at, all) {
            (None, _) => "its validation promised too little for a fall to be shown",
            (Some(_), true) => "it held its bound",
            (Some(_), false) => "its time was over and no fall was shown",
        };
        tracing::info!(generation = status.generation, solved = status.live[0], of = status.live[1], why, "the canary serves all");
        app.registry.measured(&status.generation, Figure::new(Occasion::Canary, status.live, why)).await?;
        self.close();
        Ok(Taken::ByAll)
    }

    /// Loads the generation beside what serves, proved, and gives it its share.
    async fn open(&self, app: &App, config: &CanaryConfig, wanted: &Record, validated: [u64; 2]) -> Result<Taken> {
        let serving = app.mind.engine.generation();
        let incumbent = serving.adapter.as_ref().map(|_| serving.id());
        if let Some(id) = &incumbent
            && app.registry.get(id).await?.is_some_and(|record| record.status == Status::RolledBack)
        {
            // What serves was taken out of service: nobody goes on with it.
            self.close();
            return Ok(Taken::ByAll);
        }
        let before = read(&self.file).filter(|noted| noted.status.generation == wanted.id);
        if let Some(Noted { status, breach: Some(breach), .. }) = &before {
            // The daemon ended between the breach and its consequence.
            self.take_back(app, status, breach).await?;
            return Ok(Taken::OnTrial);
        }
        let choice = Config { adapter: AdapterChoice::Named(wanted.id.clone()), ..app.config.clone() };
        let mind = Mind::load(&choice).await?.through(|engine| Arc::new(MeteredEngine::new(engine, app.config.model())));
        let noted = match before {
            Some(before) => before,
            None => {
                let bound = TrialBound::new(&self.live, config.tasks, validated)?;
                let (until, fails_at) = (bound.until(), bound.fails_at());
                let status = CanaryStatus { generation: wanted.id.clone(), incumbent, since: Utc::now(), live: [0, 0], until, fails_at };
                Noted { status, bound, breach: None }
            }
        };
        self.write(&noted)?;
        noted.status.tell(config.tasks);
        let trial = Trial { mind: Arc::new(mind), noted: Mutex::new(noted) };
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(trial));
        Ok(Taken::OnTrial)
    }

    /// Takes in a verified outcome of a generation's task; says whether that broke its bound.
    pub(super) fn outcome(&self, generation: &str, success: bool) -> bool {
        let Some(trial) = self.trial() else { return false };
        let mut noted = trial.noted();
        let [solved, of] = noted.status.live;
        if noted.status.generation != generation || noted.breach.is_some() || of >= noted.status.until {
            return false;
        }
        noted.status.live = [solved + u64::from(success), of + 1];
        noted.breach = noted.bound.look(noted.status.live);
        if let Err(error) = self.write(&noted) {
            tracing::warn!(error = format!("{error:#}"), "the canary was not written down");
        }
        noted.breach.is_some()
    }

    /// Takes the generation on trial back, as far as it broke its bound; what served goes on.
    pub(super) async fn break_off(&self, app: &App) {
        let _turn = app.improvement.changing().await;
        let Some(noted) = self.noted() else { return };
        let Some(breach) = &noted.breach else { return };
        if let Err(error) = self.take_back(app, &noted.status, breach).await {
            let error = format!("{error:#}");
            tracing::error!(error, "it could not be rolled back yet; `milepost adapters rollback` does it by hand");
        }
    }

    /// Rolls a generation back that broke its bound, unless it has been replaced already; whoever calls has the turn to change what serves.
    async fn take_back(&self, app: &App, status: &CanaryStatus, breach: &Breach) -> Result<()> {
        match app.registry.rollback_of(&app.mind.engine.generation(), &status.generation, &breach.reason).await? {
            Rollback::Done { .. } => {
                tracing::warn!(generation = status.generation, reason = breach.reason, "the canary is rolled back");
                metrics::counter!("milepost_rollbacks_total").increment(1);
                app.registry.measured(&status.generation, Figure::new(Occasion::Canary, breach.live, breach.reason.clone())).await?;
            }
            Rollback::NotServing { serving } => {
                let serving = serving.as_deref().unwrap_or("the base");
                tracing::info!(generation = status.generation, serving, "the canary broke its bound, and was replaced already");
            }
        }
        self.close();
        Ok(())
    }

    /// Ends the trial; tasks that run on it come to their end.
    fn close(&self) {
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = std::fs::remove_file(&self.file);
    }

    fn write(&self, noted: &Noted) -> Result<()> {
        Ok(files::replace(&self.file, &serde_json::to_vec(noted)?)?)
    }
}

impl Trial {
    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CanaryStatus {
    /// Says how long the trial takes, and why, where that is not what was asked for.
    fn tell(&self, asked: u64) {
        let (generation, until) = (&self.generation, self.until);
        tracing::info!(generation, until, "a canary: it serves a share of the tasks");
        if self.fails_at.is_none() {
            tracing::warn!(generation, until, "its validation promised so little that no fall can be shown: this trial takes nothing back");
        } else if until > asked {
            tracing::warn!(generation, asked, until, "fewer outcomes could not show a fall below its validation: the trial takes more");
        }
    }
}

const FILE: &str = "canary.json";

fn read(file: &Path) -> Option<Noted> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// What a generation has to hold on trial: what the gate measured of it. `None` where it needs none: it was put into service by a person or
/// without a gate, or a trial has ended since it was promoted.
fn promised(record: &Record) -> Option<[u64; 2]> {
    let promotion = record.promotion().filter(|promotion| promotion.by_hand == Some(false))?;
    let tried = record.figure(Occasion::Canary).is_some_and(|figure| figure.at >= promotion.at);
    record.figure(Occasion::Gate).filter(|_| !tried).map(|figure| figure.candidate)
}

/// A task's place between 0 and 1.
fn lot(task: &str) -> f64 {
    u64::from_str_radix(&hash16(task.as_bytes()), 16).map_or(1.0, |hash| hash as f64 / u64::MAX as f64)
}

fn hours(hours: f64) -> TimeDelta {
    TimeDelta::milliseconds((hours * 3_600_000.0) as i64)
}

/// The adapter that serves at a start. Where what should serve has yet to be tried that is not it, but the incumbent of the trial that a restart
/// cut off, or else what served before it; its own trial opens at the first look at the registry.
pub(super) async fn at_start(config: &Config, home: &Path, registry: &DirectoryRegistry) -> Result<AdapterChoice> {
    let asked = config.adapter.clone();
    let on_trial = config.serve.canary.is_some() && asked == AdapterChoice::Current && config.base().is_some();
    if !on_trial || !registry.root().is_dir() {
        return Ok(asked);
    }
    let base = crate::serving::base(config)?;
    let current = registry.current(&base).await?;
    let noted = read(&home.join(FILE)).filter(|noted| current.as_ref().is_some_and(|current| current.id == noted.status.generation));
    let Some(current) = current.filter(|current| promised(current).is_some()) else {
        // What it says of a trial is over.
        let _ = std::fs::remove_file(home.join(FILE));
        return Ok(asked);
    };
    let choice = |id: Option<String>| id.map_or(AdapterChoice::None, AdapterChoice::Named);
    if let Some(noted) = noted {
        return Ok(choice(noted.status.incumbent));
    }
    let before = choice(registry.previous(&base).await?.map(|record| record.id));
    if before != AdapterChoice::None
        && let Err(error) = Mind::load(&Config { adapter: before.clone(), ..config.clone() }).await
    {
        let (generation, error) = (&current.id, format!("{error:#}"));
        tracing::warn!(generation, error, "what served before cannot be loaded: this generation serves all, untried");
        return Ok(asked);
    }
    tracing::info!(generation = current.id, before = %String::from(before.clone()), "it has not been tried yet: what served before starts");
    Ok(before)
}

#[cfg(test)]
mod tests {
    use milepost_runtime::Generation;
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
    fn what_a_gate_promoted_is_tried_once() {
        check_promised(false, &[(Occasion::Gate, -1)], Some([7, 10]));
        check_promised(true, &[(Occasion::Gate, -1)], None);
        check_promised(false, &[], None);
        check_promised(false, &[(Occasion::Gate, -1), (Occasion::Canary, 1)], None);
        check_promised(false, &[(Occasion::Canary, -2), (Occasion::Gate, -1)], Some([7, 10]));
    }
}
