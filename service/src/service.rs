//! The service's public operations, which the daemon's protocols call.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use futures_util::stream;
use milepost_runtime::EpisodeStore;

use crate::approval::Decision;
use crate::broadcast::Scope;
use crate::config::ServiceConfig;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::event::{EventKind, TaskEvent};
use crate::follow::{EventStream, follow};
use crate::listing::{Submitted, TaskFilter, TaskPage};
use crate::record::{Feedback, TaskRecord};
use crate::runner::Runner;
use crate::state::{CancelCause, TaskState};
use crate::stats::{Drained, Load, ProfileLease, Stats};
use crate::submission::Submission;
use crate::sync::{lock, run_to_completion};
use crate::webhook::WebhookSender;
use crate::{admission, delivery, dispatch, drain, lifecycle, probe, recovery, retention};

/// The maximum length of a message to an agent in bytes.
const MESSAGE_BYTES: usize = 8_192;
/// The maximum number of tasks on a page, and of recent events in one answer.
const PAGE: u32 = 500;

/// The implementations that the service uses, supplied by the daemon.
#[derive(Clone)]
pub struct Ports {
    /// Carries tasks out.
    pub runner: Arc<dyn Runner>,
    /// The store in which the runner records its episodes; feedback sets their verified outcome.
    pub episodes: Arc<dyn EpisodeStore>,
    /// Sends webhooks.
    pub webhook_sender: Arc<dyn WebhookSender>,
}

/// A change of a task: its events, and what happens outside the database once they are committed.
struct Change {
    events: Vec<EventKind>,
    after_commit: Box<dyn FnOnce() + Send>,
}

impl Change {
    fn then(events: Vec<EventKind>, after_commit: impl FnOnce() + Send + 'static) -> Self {
        Self { events, after_commit: Box::new(after_commit) }
    }
}

impl From<Vec<EventKind>> for Change {
    fn from(events: Vec<EventKind>) -> Self {
        Self::then(events, || ())
    }
}

/// The part that all clones of a service share; dropping it stops the background work.
struct Shared {
    core: Arc<Core>,
    runner: Arc<dyn Runner>,
    episodes: Arc<dyn EpisodeStore>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.stop.cancel();
        self.core.events_ended.cancel();
    }
}

/// The service; cheap to clone. Dropping the last clone stops everything at once, as a crash would.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Opens the service in a directory (creating it if necessary), recovers the tasks of a process that crashed, and starts the workers.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub async fn open(directory: &Path, config: ServiceConfig, ports: Ports) -> Result<Self> {
        let Ports { runner, episodes, webhook_sender } = ports;
        let core = Arc::new(Core::open(directory, config).await?);
        recovery::recover_tasks(&core, lifecycle::recover_from_crash).await?;
        tokio::spawn(dispatch::dispatch(core.clone(), runner.clone()));
        tokio::spawn(delivery::deliver_webhooks(core.clone(), webhook_sender));
        tokio::spawn(retention::prune_old_tasks(core.clone()));
        tokio::spawn(probe::probe_writes(core.clone()));
        Ok(Self { shared: Arc::new(Shared { core, runner, episodes }) })
    }

    fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }

    /// Asks the runner whether it can carry a submission out; [`Service::submit`] does not do so.
    ///
    /// # Errors
    /// The runner refuses the submission; the text says why and what to do.
    pub fn check_submission(&self, submission: &Submission) -> Result<(), String> {
        self.shared.runner.check(submission)
    }

    /// Queues a task.
    ///
    /// # Errors
    /// `Invalid`, `KeyReused`, `Full`, `TooMany`, `Draining`.
    pub async fn submit(&self, caller: &str, submission: Submission) -> Result<Submitted> {
        submission.validate()?;
        let (core, caller) = (self.core().clone(), caller.to_owned());
        run_to_completion(async move { admission::submit(&core, &caller, submission).await }).await
    }

    /// Returns why the database cannot be written, or `None` if it can. It is written every few seconds, to know.
    pub fn write_failure(&self) -> Option<String> {
        self.core().store.health.failure()
    }

    /// Returns the record of a task.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, id: &str) -> Result<TaskRecord> {
        self.core().store.get(id).await
    }

    /// Lists tasks, newest first, from a cursor on; at most `limit` and at most 500.
    ///
    /// # Errors
    /// `Invalid` for a malformed cursor.
    pub async fn list(&self, filter: &TaskFilter, cursor: Option<&str>, limit: u32) -> Result<TaskPage> {
        self.core().store.list(filter, cursor, limit.clamp(1, PAGE)).await
    }

    /// Cancels a task: at once if no runner has it, else as soon as its runner returns. Cancelling a cancelled task changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that ended.
    pub async fn cancel(&self, id: &str) -> Result<TaskRecord> {
        self.change(id, |core, task| match (task.state, core.job(&task.id)) {
            (TaskState::Cancelled, _) => Ok(Vec::new().into()),
            (state, _) if state.is_final() => Err("it ended already; there is nothing to cancel".into()),
            (state, Some(job)) if state.has_runner() => {
                let first = !std::mem::replace(&mut task.cancel_requested, true);
                let events = if first { vec![EventKind::CancelRequested {}] } else { Vec::new() };
                Ok(Change::then(events, move || job.cancel(CancelCause::Cancelled)))
            }
            _ => Ok(vec![lifecycle::cancel(task, Utc::now())].into()),
        })
        .await
    }

    /// Queues an interrupted task again, for a new attempt.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn resume(&self, id: &str) -> Result<TaskRecord> {
        self.change(id, |core, task| match task.state {
            TaskState::Interrupted => Ok(vec![lifecycle::resume(task, &core.config)].into()),
            _ => Err("only an interrupted task can be resumed".into()),
        })
        .await
    }

    /// Approves the action for which the task waits.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn approve(&self, id: &str, note: Option<&str>) -> Result<TaskRecord> {
        let note = note.map(str::to_owned);
        self.decide(id, EventKind::Approved { note: note.clone() }, Decision::Approved(note)).await
    }

    /// Denies the action for which the task waits; the run continues and is informed of the denial.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn deny(&self, id: &str, note: Option<&str>) -> Result<TaskRecord> {
        let note = note.map(str::to_owned);
        self.decide(id, EventKind::Denied { note: note.clone() }, Decision::Denied(note)).await
    }

    async fn decide(&self, id: &str, kind: EventKind, decision: Decision) -> Result<TaskRecord> {
        self.change(id, move |core, task| {
            let waiting = core.job(&task.id).filter(|_| task.state == TaskState::NeedsApproval);
            let job = waiting.filter(|job| lock(&job.decision_sender).as_ref().is_some_and(|sender| !sender.is_closed()));
            let job = job.ok_or("it does not wait for a decision")?;
            task.state = TaskState::Running;
            task.approval = None;
            Ok(Change::then(vec![kind], move || {
                // A run that was cancelled meanwhile has dropped the receiver.
                if let Some(sender) = lock(&job.decision_sender).take() {
                    drop(sender.send(decision));
                }
            }))
        })
        .await
    }

    /// Sends a message to the task's agent.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Conflict` for a task that ended.
    pub async fn message(&self, id: &str, text: &str) -> Result<TaskRecord> {
        let text = text.trim().to_owned();
        if text.is_empty() || text.len() > MESSAGE_BYTES {
            return Err(Error::Invalid { field: "text", reason: "a message has 1 to 8,192 bytes".into() });
        }
        self.change(id, |core, task| {
            if task.state.is_final() {
                return Err("it ended already; nobody hears it".into());
            }
            let (job, event) = (core.job(&task.id), EventKind::Message { text: text.clone() });
            Ok(Change::then(vec![event], move || {
                if let Some(job) = job {
                    lock(&job.messages).push(text);
                }
            }))
        })
        .await
    }

    /// Sets the verified outcome of a finished task's episode, so that the episode can be used for training.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a task that has not ended or has no episode.
    pub async fn feedback(&self, id: &str, success: bool, note: Option<&str>) -> Result<TaskRecord> {
        let task = self.get(id).await?;
        let conflict = |reason: &str| Error::Conflict { id: id.to_owned(), state: task.state, reason: reason.to_owned() };
        if !task.state.is_final() {
            return Err(conflict("it has not ended yet; say then whether it was done"));
        }
        let episode = task.episode.as_deref().ok_or_else(|| conflict("it never ran, so that there is nothing to learn from"))?;
        self.shared.episodes.set_success(episode, Some(success)).await?;
        let feedback = Feedback { success, note: note.map(str::to_owned), at: Utc::now() };
        self.change(id, move |_, task| {
            task.success = Some(success);
            task.feedback = Some(feedback);
            Ok(Vec::new().into())
        })
        .await
    }

    /// Changes a task in one transaction; an error of the closure becomes a `Conflict`.
    async fn change<F>(&self, id: &str, change: F) -> Result<TaskRecord>
    where
        F: FnOnce(&Core, &mut TaskRecord) -> Result<Change, String> + Send + 'static,
    {
        let (core, id) = (self.core().clone(), id.to_owned());
        run_to_completion(async move {
            let mut tx = core.store.begin().await?;
            let written = async {
                let mut task = tx.task(&id).await?;
                let Change { events, after_commit } =
                    change(&core, &mut task).map_err(|reason| Error::Conflict { id, state: task.state, reason })?;
                tx.update(&mut task, events).await?;
                Ok::<_, Error>((task, after_commit))
            };
            let written = written.await;
            let (task, after_commit) = tx.finish(written).await?;
            after_commit();
            core.queue_changed.notify_one();
            core.outbox_changed.notify_one();
            Ok(task)
        })
        .await
    }

    /// Streams a task's events after `after_seq`: first the stored ones, then live ones, each once and in order. The stream ends after
    /// `ended`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn events(&self, id: &str, after_seq: u64) -> Result<EventStream> {
        let task = self.get(id).await?;
        if task.state.is_final() && after_seq >= task.last_seq {
            return Ok(Box::pin(stream::empty()));
        }
        Ok(follow(self.core().store.clone(), Scope::Task(task.id), after_seq, self.core().events_ended.clone()))
    }

    /// Returns the last events of all tasks, oldest first; at most `limit` and at most 500.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recent_events(&self, limit: u32) -> Result<Vec<TaskEvent>> {
        self.core().store.recent_events(limit.clamp(1, PAGE)).await
    }

    /// Streams the events of all tasks after a position, stored and live. The stream ends when the service stops.
    pub fn all_events(&self, after_position: u64) -> EventStream {
        follow(self.core().store.clone(), Scope::All, after_position, self.core().events_ended.clone())
    }

    /// Returns the figures of the service.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn stats(&self) -> Result<Stats> {
        let core = self.core();
        let oldest = core.store.oldest_queued().await?;
        let load = self.load();
        Ok(Stats {
            tasks: core.store.count_by_state().await?,
            workers: load.workers,
            busy: load.busy,
            oldest_waiting_seconds: oldest.map(|since| (Utc::now() - since).as_seconds_f64().max(0.0)),
            webhooks_pending: core.store.count_undelivered().await?,
            paused: core.paused.load(Ordering::Acquire),
            draining: core.is_draining(),
        })
    }

    /// Returns how busy the service is, without reading the store.
    pub fn load(&self) -> Load {
        let core = self.core();
        let workers = core.config.workers;
        Load { busy: workers.saturating_sub(core.worker_permits.available_permits()), workers, waiting: core.store.queued() }
    }

    /// Returns the named browser profiles in use.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn profiles(&self) -> Result<Vec<ProfileLease>> {
        self.core().store.profiles().await
    }

    /// Starts no further task until [`Service::unpause`] is called; running tasks continue.
    pub fn pause(&self) {
        self.core().paused.store(true, Ordering::Release);
    }

    /// Starts tasks again after [`Service::pause`].
    pub fn unpause(&self) {
        self.core().paused.store(false, Ordering::Release);
        self.core().queue_changed.notify_one();
    }

    /// Returns the key with which webhooks are signed.
    pub fn webhook_key(&self) -> &[u8] {
        &self.core().webhook_key
    }

    /// Shuts the service down: it accepts and starts no more tasks, waits for running ones up to the time limit, and aborts the rest; no
    /// task is lost. Event streams end.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn drain(&self, time_limit: Duration) -> Result<Drained> {
        let core = self.core().clone();
        run_to_completion(async move { drain::drain(&core, time_limit).await }).await
    }
}
