//! Supervises the runs of the improvement loop: it starts them on triggers and on demand, stops them under load, and brings the generations that
//! they promoted into service.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use milepost_runtime::EpisodeStore;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::child::{Child, End, Program};
use super::config::ImproveInDaemon;
use super::deployment::Deployment;
use super::order::{Finished, ImproveStatus, Order, Running};
use crate::error::{Error, Result};
use crate::runs;
use crate::schedule::{Trigger, times};

/// The interval between two checks of the registry for changes that another process made.
const REGISTRY_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two checks of the workers' load during a run.
const LOAD_INTERVAL: Duration = Duration::from_millis(500);

/// The load of the daemon's workers.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerLoad {
    /// The number of workers.
    pub workers: usize,
    /// The number of busy workers.
    pub busy: usize,
    /// The number of tasks that wait for a worker.
    pub waiting: usize,
}

/// Why a run was not started.
#[derive(Debug)]
pub enum StartError {
    /// A run is in progress, or the model is not trained on this machine; the message says which.
    Conflict(String),
    /// The process could not be started.
    Failed(Error),
}

/// The settings of the supervisor.
pub struct ImprovementSettings {
    /// The settings of section `serve.improve`.
    pub config: ImproveInDaemon,
    /// The program that is started.
    pub program: Program,
    /// The directory in which runs keep their state.
    pub runs: PathBuf,
    /// Why the model cannot be trained on this machine, if it cannot.
    pub untrainable: Option<String>,
    /// Returns the load of the workers.
    pub load: Box<dyn Fn() -> WorkerLoad + Send + Sync>,
}

/// The improvement loop beside the daemon.
pub struct Improvement {
    settings: ImprovementSettings,
    deployment: Arc<Deployment>,
    store: Arc<dyn EpisodeStore>,
    status: Mutex<ImproveStatus>,
    stop: CancellationToken,
    /// Notified when a run has ended.
    over: Notify,
}

impl Improvement {
    /// Sets up the supervisor; nothing runs yet.
    pub fn new(settings: ImprovementSettings, deployment: Arc<Deployment>, store: Arc<dyn EpisodeStore>) -> Arc<Self> {
        let (schedule, every_episodes) = (settings.config.schedule.clone(), settings.config.every_episodes);
        let status = Mutex::new(ImproveStatus { schedule, every_episodes, ..ImproveStatus::default() });
        Arc::new(Self { settings, deployment, store, status, stop: CancellationToken::new(), over: Notify::new() })
    }

    /// Returns the settings of section `serve.improve`.
    pub fn config(&self) -> &ImproveInDaemon {
        &self.settings.config
    }

    /// Returns the state of the loop.
    pub fn status(&self) -> ImproveStatus {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ImproveStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a run.
    ///
    /// # Errors
    /// A run is in progress, the model is not trained on this machine, or the process cannot be started.
    pub fn start(self: &Arc<Self>, order: Order) -> Result<(), StartError> {
        if let Some(problem) = &self.settings.untrainable {
            return Err(StartError::Conflict(problem.clone()));
        }
        let mut status = self.lock();
        if let Some(running) = &status.running {
            return Err(StartError::Conflict(format!(
                "a run is in progress since {}; `GET /v1/improve` shows it",
                running.since.to_rfc3339()
            )));
        }
        let child = Child::start(&self.settings.program, &self.settings.config, &order).map_err(StartError::Failed)?;
        status.running = Some(Running { reason: order.reason, since: Utc::now(), paused: false, process: child.process() });
        drop(status);
        tokio::spawn(self.clone().supervise(child));
        Ok(())
    }

    /// Ends the run in progress; the next run resumes it.
    pub async fn end(&self) {
        self.stop.cancel();
        loop {
            // The notification is registered before the check, so that an end between the two is not missed.
            let over = self.over.notified();
            if self.status().running.is_none() {
                return;
            }
            over.await;
        }
    }

    /// Supervises a run until it ends: stops it under load, and at its end brings the generation that it promoted into service.
    async fn supervise(self: Arc<Self>, mut child: Child) {
        let above = self.settings.config.pause_above;
        let end = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break child.end().await,
                end = child.ended() => break end,
                () = tokio::time::sleep(LOAD_INTERVAL) => {}
            }
            let load = (self.settings.load)();
            let busy = load.busy as f64 > above * load.workers as f64 || (load.waiting > 0 && above < 1.0);
            let paused = child.pause(busy);
            if let Some(running) = &mut self.lock().running {
                running.paused = paused;
            }
        };
        if let Some(said) = &end.said {
            tracing::warn!(said, "the improvement run failed");
        }
        self.deployment.follow_registry(&mut String::new()).await;
        self.ended(end);
    }

    fn ended(&self, end: End) {
        let mut status = self.lock();
        let Some(Running { reason, since, .. }) = status.running.take() else { return };
        let outcome = if end.done { "done" } else { "failed" };
        metrics::counter!("milepost_improvement_runs_total", "outcome" => outcome).increment(1);
        status.last = Some(Finished { reason, began_at: since, ended_at: Utc::now(), done: end.done, said: end.said, report: end.report });
        drop(status);
        self.over.notify_waiters();
    }

    /// Starts a run each time that the trigger fires.
    pub async fn run_on_trigger(self: Arc<Self>, reason: String, trigger: Trigger) {
        let mut since = runs::last_written(&self.settings.runs).unwrap_or_else(|error| {
            tracing::warn!(error = error.with_causes(), "episodes count from now on");
            Utc::now()
        });
        loop {
            match trigger.wait(&*self.store, since, &self.stop).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::error!(error = error.with_causes(), reason, "this trigger does not work"),
            }
            since = Utc::now();
            let ImproveInDaemon { recipe, suite, rounds, .. } = self.settings.config;
            match self.start(Order { reason: reason.clone(), recipe, suite, rounds }) {
                Ok(()) => {}
                Err(StartError::Conflict(detail)) => tracing::warn!(detail, reason, "no run was started"),
                Err(StartError::Failed(error)) => tracing::error!(error = error.with_causes(), reason, "no run was started"),
            }
            while self.status().running.is_some() {
                tokio::time::sleep(REGISTRY_INTERVAL).await;
            }
        }
    }

    /// Brings promotions and rollbacks into service, including those that another process made.
    pub async fn follow_registry(self: Arc<Self>) {
        let mut reported = String::new();
        loop {
            tokio::time::sleep(REGISTRY_INTERVAL).await;
            self.deployment.follow_registry(&mut reported).await;
        }
    }
}

/// Returns the triggers of the configuration, each with the reason of its runs.
///
/// # Errors
/// The schedule is no cron pattern, or a number is out of range.
pub fn triggers(config: &ImproveInDaemon) -> Result<Vec<(String, Trigger)>> {
    let wrong = |error: String| Error::bad_input(format!("`serve.improve.schedule`: {error}"));
    let schedule = config.schedule.as_deref().map(|text| times(text).map(|trigger| (format!("scheduled ({text})"), trigger)));
    let every = config.every_episodes.map(|count| (format!("{count} new verified episodes"), Trigger::Episodes(count)));
    if config.every_episodes == Some(0) || config.rounds == 0 || !(0..=19).contains(&config.nice) {
        return Err(Error::bad_input("`serve.improve`: every_episodes and rounds are at least 1, and nice is 0 to 19"));
    }
    Ok(schedule.transpose().map_err(wrong)?.into_iter().chain(every).collect())
}
