//! The state that the service's parts share.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::broadcast::{Channel, Scope};
use crate::config::ServiceConfig;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::job::JobState;
use crate::store::Store;
use crate::sync::lock;

/// The state that the service's parts share.
pub(crate) struct Core {
    pub(crate) config: ServiceConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) webhook_key: Vec<u8>,
    /// The running tasks, by id. Requests look them up while the dispatcher adds and the supervisors remove others.
    pub(crate) jobs: DashMap<String, Arc<JobState>>,
    /// One permit per worker.
    pub(crate) worker_permits: Arc<Semaphore>,
    /// One permit per task that may wait for a person without a worker.
    pub(crate) waiting_permits: Arc<Semaphore>,
    /// Wakes the dispatcher: the queue may have changed.
    pub(crate) queue_changed: Notify,
    /// Wakes the delivery of webhooks: the outbox may have changed.
    pub(crate) outbox_changed: Notify,
    /// Wakes a drain: a task was removed from `jobs`.
    pub(crate) job_removed: Notify,
    pub(crate) paused: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Cancelled when all background work must stop at once.
    pub(crate) stop: CancellationToken,
    /// Cancelled when no further event will be published: event streams end.
    pub(crate) events_ended: CancellationToken,
    /// Keeps the channel of all tasks' events alive, so that the newest events stay in memory.
    pub(crate) _all_events: Arc<Channel>,
    /// The locked file that keeps other processes from using the directory.
    pub(crate) _directory_lock: File,
}

impl Core {
    /// Locks the directory, creating it if necessary, and opens the store in it.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub(crate) async fn open(directory: &Path, config: ServiceConfig) -> Result<Self> {
        let fail = |path: &Path, error: std::io::Error| Error::Store {
            path: path.display().to_string(),
            reason: format!("{error}; set `service.directory` to a place that can be written"),
        };
        std::fs::create_dir_all(directory).map_err(|error| fail(directory, error))?;
        let lock_path = directory.join("service.lock");
        let lock_file = File::create(&lock_path).map_err(|error| fail(&lock_path, error))?;
        lock_file.try_lock().map_err(|_| Error::InUse(directory.display().to_string()))?;
        let store = Arc::new(Store::open(directory, config.tail).await?);
        Ok(Self {
            webhook_key: crate::webhook::signing_key(&directory.join("webhook.key"))?,
            jobs: DashMap::new(),
            worker_permits: Arc::new(Semaphore::new(config.workers)),
            waiting_permits: Arc::new(Semaphore::new(config.waiting_limit)),
            queue_changed: Notify::new(),
            outbox_changed: Notify::new(),
            job_removed: Notify::new(),
            paused: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            events_ended: CancellationToken::new(),
            _all_events: store.broadcast.channel(&Scope::All),
            _directory_lock: lock_file,
            config,
            store,
        })
    }

    /// Writes the events that a job's runner has emitted so far.
    ///
    /// # Errors
    /// [`Error::Lost`], or the store cannot be written; then the events stay pending.
    pub(crate) async fn write_pending_events(&self, job: &JobState) -> Result<()> {
        let _writing = job.writing_events.lock().await;
        let kinds = std::mem::take(&mut *lock(&job.pending_events));
        if kinds.is_empty() {
            return Ok(());
        }
        let written = self.write_events(job, kinds.clone()).await;
        if written.is_err() {
            lock(&job.pending_events).splice(0..0, kinds);
        }
        written
    }

    async fn write_events(&self, job: &JobState, kinds: Vec<EventKind>) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let written = async {
            let mut task = tx.task(&job.id).await?;
            if !job.owns(&task) {
                return Err(Error::Lost(job.id.clone()));
            }
            tx.update(&mut task, kinds).await
        };
        let written = written.await;
        tx.finish(written).await
    }

    /// Returns the job of a task, if the task is running.
    pub(crate) fn job(&self, id: &str) -> Option<Arc<JobState>> {
        self.jobs.get(id).map(|job| job.clone())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
