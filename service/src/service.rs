//! The service itself: what protocols call.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use futures_util::{Stream, stream};
use milepost_runtime::EpisodeStore;

use crate::config::ServiceConfig;
use crate::core::{Core, apart};
use crate::error::{Error, Result};
use crate::event::{EventKind, TaskEvent};
use crate::feed::{Scope, follow, lock};
use crate::lifecycle;
use crate::record::{Cause, Decision, Drained, Feedback, Filter, Load, Page, ProfileLease, Stats, Submitted, TaskRecord, TaskState};
use crate::runner::Runner;
use crate::store::Tx;
use crate::submission::Submission;
use crate::webhook::Deliver;
use crate::{drain, post, worker};

/// Longest message to an agent, in bytes.
const MESSAGE_BYTES: usize = 8_192;
/// Most tasks on a page, and most recent events at once.
const PAGE: u32 = 500;

/// Events as a follower gets them; ends after an error.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Arc<TaskEvent>>> + Send>>;

/// What the service needs from outside.
#[derive(Clone)]
pub struct Ports {
    /// Carries tasks out.
    pub runner: Arc<dyn Runner>,
    /// Where the runner records its episodes: feedback sets their verified outcome.
    pub episodes: Arc<dyn EpisodeStore>,
    /// Delivers webhooks.
    pub deliver: Arc<dyn Deliver>,
}

/// Stops everything when the last clone of a service goes.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop.cancel();
        self.core.silent.cancel();
    }
}

/// The service; cheap to clone. When the last clone is dropped, everything stops where it is, as at a crash.
#[derive(Clone)]
pub struct Service {
    handle: Arc<Handle>,
}

impl Service {
    /// Opens (or makes) the service in a directory, takes up what a process that died left, and starts the workers.
    ///
    /// # Errors
    /// A directory that cannot be used or that another process has.
    pub async fn open(directory: &Path, config: ServiceConfig, ports: Ports) -> Result<Self> {
        let core = Arc::new(Core::open(directory, config, ports).await?);
        worker::recover(&core, lifecycle::died).await?;
        for part in [
            tokio::spawn(worker::dispatch(core.clone())),
            tokio::spawn(post::deliver(core.clone())),
            tokio::spawn(drain::prune(core.clone())),
        ] {
            drop(part);
        }
        Ok(Self { handle: Arc::new(Handle { core }) })
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Queues a task.
    ///
    /// # Errors
    /// `Invalid`, `KeyReused`, `Full`, `TooMany`, `Draining`.
    pub async fn submit(&self, caller: &str, submission: Submission) -> Result<Submitted> {
        submission.validate()?;
        let (core, caller) = (self.core().clone(), caller.to_owned());
        apart(async move { submit(&core, &caller, submission).await }).await
    }

    /// A task.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, id: &str) -> Result<TaskRecord> {
        self.core().store.get(id).await
    }

    /// Tasks, newest first, from a cursor on; at most 500 a page.
    ///
    /// # Errors
    /// `Invalid` for a cursor that is none.
    pub async fn list(&self, filter: &Filter, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.core().store.list(filter, cursor, limit.clamp(1, PAGE)).await
    }

    /// Cancels a task: at once where nobody runs it, else as soon as its runner lets go. Cancelling a cancelled task changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that ended.
    pub async fn cancel(&self, id: &str) -> Result<TaskRecord> {
        self.change(id, |core, task| match (task.state, core.job(&task.id)) {
            (TaskState::Cancelled, _) => Ok(Vec::new()),
            (state, _) if state.is_final() => Err("it ended already; there is nothing to cancel".into()),
            (state, Some(job)) if state.is_held() => {
                job.end(Cause::Cancelled);
                let first = !std::mem::replace(&mut task.cancel_requested, true);
                Ok(if first { vec![EventKind::CancelRequested {}] } else { Vec::new() })
            }
            _ => Ok(vec![lifecycle::cancel(task, Utc::now())]),
        })
        .await
    }

    /// Starts an interrupted task anew, as a new attempt.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn resume(&self, id: &str) -> Result<TaskRecord> {
        self.change(id, |core, task| match task.state {
            TaskState::Interrupted => Ok(vec![lifecycle::resume(task, &core.config)]),
            _ => Err("only an interrupted task can be resumed".into()),
        })
        .await
    }

    /// Lets the action be carried out that the task waits with.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn approve(&self, id: &str, note: Option<&str>) -> Result<TaskRecord> {
        let note = note.map(str::to_owned);
        self.decide(id, EventKind::Approved { note: note.clone() }, Decision::Approved(note)).await
    }

    /// Refuses that action; the run goes on and is told so.
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
            let sender = waiting.and_then(|job| lock(&job.decision).take());
            let sender = sender.ok_or("it does not wait for a decision")?;
            sender.send(decision).map_err(|_| "it does not wait for a decision any more")?;
            task.state = TaskState::Running;
            task.approval = None;
            Ok(vec![kind])
        })
        .await
    }

    /// Says something to the agent.
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
            if let Some(job) = core.job(&task.id) {
                lock(&job.messages).push(text.clone());
            }
            Ok(vec![EventKind::Message { text }])
        })
        .await
    }

    /// Sets the verified outcome of a finished task's episode, which makes it one that can be learned from.
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
        self.core().ports.episodes.set_success(episode, Some(success)).await?;
        let feedback = Feedback { success, note: note.map(str::to_owned), at: Utc::now() };
        self.change(id, move |_, task| {
            task.success = Some(success);
            task.feedback = Some(feedback);
            Ok(Vec::new())
        })
        .await
    }

    /// Changes a task in one transaction; what the closure refuses becomes a conflict.
    async fn change<F>(&self, id: &str, change: F) -> Result<TaskRecord>
    where
        F: FnOnce(&Core, &mut TaskRecord) -> Result<Vec<EventKind>, String> + Send + 'static,
    {
        let (core, id) = (self.core().clone(), id.to_owned());
        apart(async move {
            let mut tx: Tx = core.store.begin().await?;
            let mut task = tx.task(&id).await?;
            let kinds = change(&core, &mut task).map_err(|reason| Error::Conflict { id, state: task.state, reason })?;
            tx.put(&mut task, kinds).await?;
            tx.commit().await?;
            core.wake.notify_one();
            core.post.notify_one();
            Ok(task)
        })
        .await
    }

    /// A task's events after `after_seq`: stored ones, then live ones, each once and in order; ends after `ended`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn events(&self, id: &str, after_seq: u64) -> Result<EventStream> {
        let task = self.get(id).await?;
        if task.state.is_final() && after_seq >= task.last_seq {
            return Ok(Box::pin(stream::empty()));
        }
        Ok(follow(self.core().store.clone(), Scope::Task(task.id), after_seq, self.core().silent.clone()))
    }

    /// The last events of all tasks, oldest first; at most 500.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn recent_events(&self, limit: u32) -> Result<Vec<TaskEvent>> {
        self.core().store.recent_events(limit.clamp(1, PAGE)).await
    }

    /// The events of all tasks after a position, stored and live; ends when the service does.
    pub fn all_events(&self, after_position: u64) -> EventStream {
        follow(self.core().store.clone(), Scope::All, after_position, self.core().silent.clone())
    }

    /// How the service stands.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn stats(&self) -> Result<Stats> {
        let core = self.core();
        let oldest = core.store.oldest_queued().await?;
        let load = self.load();
        Ok(Stats {
            tasks: core.store.by_state().await?,
            workers: load.workers,
            busy: load.busy,
            oldest_waiting_seconds: oldest.map(|since| (Utc::now() - since).as_seconds_f64().max(0.0)),
            webhooks_pending: core.store.undelivered().await?,
            paused: core.paused.load(Ordering::Acquire),
            draining: core.is_draining(),
        })
    }

    /// How busy it is, without touching the disk.
    pub fn load(&self) -> Load {
        let core = self.core();
        let workers = core.config.workers;
        Load { busy: workers.saturating_sub(core.places.available_permits()), workers, waiting: core.store.queued() }
    }

    /// The named profiles in use.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn profiles(&self) -> Result<Vec<ProfileLease>> {
        self.core().store.profiles().await
    }

    /// Starts no task until [`Service::proceed`]; running ones go on.
    pub fn pause(&self) {
        self.core().paused.store(true, Ordering::Release);
    }

    /// Starts tasks again.
    pub fn proceed(&self) {
        self.core().paused.store(false, Ordering::Release);
        self.core().wake.notify_one();
    }

    /// The key that webhooks are signed with.
    pub fn webhook_key(&self) -> &[u8] {
        &self.core().webhook_key
    }

    /// Takes and starts nothing more, gives what runs until `bound`, and cuts the rest off; nothing is lost. Followers' streams end.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub async fn drain(&self, bound: Duration) -> Result<Drained> {
        let core = self.core().clone();
        apart(async move { drain::drain(&core, bound).await }).await
    }
}

async fn submit(core: &Core, caller: &str, submission: Submission) -> Result<Submitted> {
    let (config, retry_after) = (&core.config, core.config.retry_after_seconds);
    let mut tx = core.store.begin().await?;
    if let Some(key) = &submission.idempotency_key
        && let Some((record, hash)) = tx.by_key(caller, key).await?
    {
        return match hash == submission.hash() {
            true => Ok(Submitted { record, repeated: true }),
            false => Err(Error::KeyReused { key: key.clone(), task: record.id }),
        };
    }
    if core.is_draining() {
        return Err(Error::Draining { retry_after });
    }
    submission.check_deadline()?;
    let (waiting, own) = tx.waiting(caller).await?;
    if waiting >= config.queue_limit {
        return Err(Error::Full { limit: config.queue_limit, retry_after });
    }
    if own >= config.per_caller_queued {
        return Err(Error::TooMany { caller: caller.to_owned(), limit: config.per_caller_queued, retry_after });
    }
    let mut record = lifecycle::admit(caller, submission, config, Utc::now());
    tx.insert(&record).await?;
    tx.put(&mut record, vec![EventKind::Queued { reason: None }]).await?;
    tx.commit().await?;
    core.wake.notify_one();
    Ok(Submitted { record, repeated: false })
}
