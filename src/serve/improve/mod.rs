//! Self-improvement inside the daemon: the loop runs as a child process, stands still under load, and what it promotes is taken up under
//! traffic.

mod child;
pub mod config;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use milepost_runtime::Error;
use milepost_runtime::registry::follow;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{MutexGuard, Notify, watch};
use utoipa::ToSchema;

use self::config::{ImproveInDaemon, LearnFrom};
use super::App;
use super::canary::Taken;
use super::problem::Problem;
use crate::config::AdapterChoice;
use crate::improve::config::Recipe;
use crate::improve::runs;
use crate::improve::schedule::{Trigger, times};

/// How often the registry is asked for a change that somebody else made.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the workers' load is looked at while a run is in progress.
const LOAD_EVERY: Duration = Duration::from_millis(500);

/// A run that is wanted.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who or what wants it.
    pub reason: String,
    /// How a round learns; `improve.recipe` where nothing is said.
    pub recipe: Option<Recipe>,
    /// What it learns from.
    pub suite: LearnFrom,
    /// Rounds.
    pub rounds: usize,
}

/// A run in progress.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Running {
    /// Who or what wanted it.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether it stands still because the workers are busy.
    pub paused: bool,
    /// Process id.
    pub process: u32,
}

/// A run that ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finished {
    /// Who or what wanted it.
    pub reason: String,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Whether it came to its end.
    pub done: bool,
    /// The end of what it said, where it failed.
    pub said: Option<String>,
    /// What it reports: `rounds`, `remeasured`, `settings`, `directory`.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

/// How the improvement loop stands.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ImproveStatus {
    /// What runs.
    pub running: Option<Running>,
    /// What ran last, since the daemon started.
    pub last: Option<Finished>,
    /// It runs at these times.
    pub schedule: Option<String>,
    /// It runs after so many verified episodes.
    pub every_episodes: Option<usize>,
}

/// The improvement loop.
pub struct Improvement {
    directory: PathBuf,
    status: Arc<Mutex<ImproveStatus>>,
    stop: watch::Sender<bool>,
    /// Tells that a run has ended.
    over: Notify,
    /// One changes what serves at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Improvement {
    /// A loop that keeps its files in the daemon's directory.
    pub fn new(directory: PathBuf, config: &ImproveInDaemon) -> Self {
        let status = ImproveStatus { schedule: config.schedule.clone(), every_episodes: config.every_episodes, ..ImproveStatus::default() };
        Self {
            directory,
            status: Arc::new(Mutex::new(status)),
            stop: watch::Sender::new(false),
            over: Notify::new(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// How it stands.
    pub fn status(&self) -> ImproveStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for one's turn to change what serves.
    pub async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Starts a run.
    ///
    /// # Errors
    /// 409 where one runs already, or where the model is not trained here.
    pub fn start(&self, app: &App, order: Order) -> Result<(), Problem> {
        app.config.weights().map_err(|error| Problem::conflict(error.to_string()))?;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &status.running {
            return Err(Problem::conflict(format!(
                "a run is in progress since {}; `GET /v1/improve` shows it",
                running.since.to_rfc3339()
            )));
        }
        let child = child::Child::start(&self.directory, &app.config, &order).map_err(|error| Problem::internal(&format!("{error:#}")))?;
        status.running = Some(Running { reason: order.reason, since: Utc::now(), paused: false, process: child.process() });
        drop(status);
        tokio::spawn(see_through(app.clone(), child));
        Ok(())
    }

    /// Ends what runs; the next run goes on from there.
    pub async fn end(&self) {
        self.stop.send_replace(true);
        loop {
            // Made before the look, so that an end between the two is heard.
            let over = self.over.notified();
            if self.status().running.is_none() {
                return;
            }
            over.await;
        }
    }

    fn pause(&self, paused: bool) {
        if let Some(running) = &mut self.status.lock().unwrap_or_else(PoisonError::into_inner).running {
            running.paused = paused;
        }
    }

    fn ended(&self, end: child::End) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { reason, since, .. }) = status.running.take() else { return };
        let outcome = if end.done { "done" } else { "failed" };
        metrics::counter!("milepost_improvement_runs_total", "outcome" => outcome).increment(1);
        status.last = Some(Finished { reason, began_at: since, ended_at: Utc::now(), done: end.done, said: end.said, report: end.report });
        drop(status);
        self.over.notify_waiters();
    }
}

/// Stays with a run: stops it under load, and takes up what it promoted.
async fn see_through(app: App, mut child: child::Child) {
    let mut stop = app.improvement.stop.subscribe();
    let above = app.config.serve.improve.pause_above;
    let end = loop {
        tokio::select! {
            biased;
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break child.end().await,
            end = child.ended() => break end,
            () = tokio::time::sleep(LOAD_EVERY) => {}
        }
        let load = app.service.load();
        let busy = load.busy as f64 > above * load.workers as f64 || (load.waiting > 0 && above < 1.0);
        app.improvement.pause(child.pause(busy));
    };
    if let Some(said) = &end.said {
        tracing::warn!(said, "the improvement run failed");
    }
    take_up(&app, &mut String::new()).await;
    app.improvement.ended(end);
}

/// Brings the engine to what the registry says should serve, where the configuration asks for that.
async fn take_up(app: &App, told: &mut String) {
    if app.config.adapter != AdapterChoice::Current {
        return;
    }
    let _turn = app.improvement.changing().await;
    let taken = async {
        match app.canary.take(app).await? {
            Taken::OnTrial => Ok(None),
            Taken::ByAll => anyhow::Ok(follow(&app.registry, &*app.mind.engine).await?),
        }
    };
    match taken.await {
        Ok(None) => told.clear(),
        Ok(Some(generation)) => tracing::info!(generation = generation.id(), "another generation serves"),
        Err(error) => {
            let error = format!("{error:#}");
            if *told != error {
                tracing::error!(error, "what should serve does not");
            }
            *told = error;
        }
    }
}

/// The triggers of the configuration.
///
/// # Errors
/// A pattern that is none.
pub(super) fn triggers(config: &ImproveInDaemon) -> Result<Vec<(String, Trigger)>> {
    let wrong = |error: String| Error::BadInput(format!("`serve.improve.schedule`: {error}"));
    let schedule = config.schedule.as_deref().map(|text| times(text).map(|trigger| (format!("scheduled ({text})"), trigger)));
    let every = config.every_episodes.map(|count| (format!("{count} new verified episodes"), Trigger::Episodes(count)));
    if config.every_episodes == Some(0) || config.rounds == 0 || !(0..=19).contains(&config.nice) {
        anyhow::bail!(Error::BadInput("`serve.improve`: every_episodes and rounds are at least 1, and nice is 0 to 19".into()));
    }
    Ok(schedule.transpose().map_err(wrong)?.into_iter().chain(every).collect())
}

/// Starts runs when a trigger says so.
pub(super) async fn watch(app: App, reason: String, trigger: Trigger) {
    let mut stop = app.improvement.stop.subscribe();
    let mut since = runs::last(&runs::place(&app.config)).unwrap_or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "episodes count from now on");
        Utc::now()
    });
    loop {
        match trigger.wait(&*app.store, since, &mut stop).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::error!(error = format!("{error:#}"), reason, "this trigger does not work"),
        }
        since = Utc::now();
        let ImproveInDaemon { recipe, suite, rounds, .. } = app.config.serve.improve;
        if let Err(problem) = app.improvement.start(&app, Order { reason: reason.clone(), recipe, suite, rounds }) {
            tracing::warn!(detail = problem.detail, reason, "no run was started");
        }
        while app.improvement.status().running.is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Takes up promotions and rollbacks by whomever.
pub(super) async fn follow_registry(app: App) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        take_up(&app, &mut told).await;
    }
}
