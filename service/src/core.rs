//! What the service's parts share.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::ServiceConfig;
use crate::error::{Error, Result};
use crate::feed::{Channel, Scope, lock};
use crate::job::JobState;
use crate::service::Ports;
use crate::store::Store;

/// What the service's parts share.
pub(crate) struct Core {
    pub(crate) config: ServiceConfig,
    pub(crate) ports: Ports,
    pub(crate) store: Arc<Store>,
    pub(crate) webhook_key: Vec<u8>,
    /// Tasks in runners' hands.
    pub(crate) jobs: Mutex<HashMap<String, Arc<JobState>>>,
    /// One place a worker.
    pub(crate) places: Arc<Semaphore>,
    /// One room a task that waits for a person without keeping its worker.
    pub(crate) rooms: Arc<Semaphore>,
    /// The queue may have changed.
    pub(crate) wake: Notify,
    /// The outbox may have changed.
    pub(crate) post: Notify,
    /// A task left its runner's hands.
    pub(crate) left: Notify,
    pub(crate) paused: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Everything stops where it is.
    pub(crate) stop: CancellationToken,
    /// No event follows: followers leave.
    pub(crate) silent: CancellationToken,
    /// Keeps the newest events of all tasks in memory.
    pub(crate) _recent: Arc<Channel>,
    /// Held locked: one process has the directory.
    pub(crate) _owner: File,
}

impl Core {
    pub(crate) async fn open(directory: &Path, config: ServiceConfig, ports: Ports) -> Result<Self> {
        let fail = |path: &Path, error: std::io::Error| Error::Store {
            path: path.display().to_string(),
            reason: format!("{error}; set `service.directory` to a place that can be written"),
        };
        std::fs::create_dir_all(directory).map_err(|error| fail(directory, error))?;
        let lock_file = directory.join("service.lock");
        let owner = File::create(&lock_file).map_err(|error| fail(&lock_file, error))?;
        owner.try_lock().map_err(|_| Error::InUse(directory.display().to_string()))?;
        let store = Arc::new(Store::open(directory, config.tail).await?);
        Ok(Self {
            webhook_key: crate::webhook::key(&directory.join("webhook.key"))?,
            jobs: Mutex::default(),
            places: Arc::new(Semaphore::new(config.workers)),
            rooms: Arc::new(Semaphore::new(config.waiting_limit)),
            wake: Notify::new(),
            post: Notify::new(),
            left: Notify::new(),
            paused: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            silent: CancellationToken::new(),
            _recent: store.feed.channel(&Scope::All),
            _owner: owner,
            config,
            ports,
            store,
        })
    }

    /// Writes down what a job's runner reported so far.
    pub(crate) async fn record(&self, job: &JobState) -> Result<()> {
        let _one = job.recording.lock().await;
        let kinds = std::mem::take(&mut *lock(&job.pending));
        if kinds.is_empty() {
            return Ok(());
        }
        let written = self.write_events(job, kinds.clone()).await;
        if written.is_err() {
            lock(&job.pending).splice(0..0, kinds);
        }
        written
    }

    async fn write_events(&self, job: &JobState, kinds: Vec<crate::EventKind>) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let mut task = tx.task(&job.id).await?;
        if !job.holds(&task) {
            return Err(Error::Lost(job.id.clone()));
        }
        tx.put(&mut task, kinds).await?;
        tx.commit().await
    }

    /// The job of a task, where a runner has it.
    pub(crate) fn job(&self, id: &str) -> Option<Arc<JobState>> {
        lock(&self.jobs).get(id).cloned()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Runs a change to its end even where whoever asked for it goes away meanwhile: a commit without its consequences would be half a change.
pub(crate) async fn apart<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(error) => Err(Error::Store { path: "service.sqlite".into(), reason: format!("a change broke off: {error}; try again") }),
    }
}
