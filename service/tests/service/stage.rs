//! A service whose runners do what the test says, in a process that can be killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use milepost_runtime::{SqliteStore, Stop};
use milepost_service::{
    Deliver, Delivery, Desk, EventKind, Job, Ports, Report, RunFailure, Runner, Service, ServiceConfig, Submission, TaskEvent, TaskRecord,
    TaskState,
};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

/// Nothing that a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A run in the test's hands. Dropping `end` leaves a run that goes on for ever.
pub struct Run {
    pub record: TaskRecord,
    pub desk: Desk,
    pub end: oneshot::Sender<Result<Report, RunFailure>>,
}

impl Run {
    /// The run answers.
    pub fn answer(self, text: &str) {
        self.end.send(Ok(report(Stop::Answered, Some(text)))).unwrap();
    }
}

pub fn report(stop: Stop, answer: Option<&str>) -> Report {
    Report { stop, answer: answer.map(str::to_owned), output: None, success: None, episode: None }
}

/// What a runner does when it is told to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manners {
    /// It ends.
    Obedient,
    /// It goes on.
    Deaf,
}

/// A goal at which the runner panics.
pub const BREAKS: &str = "break";

struct Puppet {
    runs: mpsc::UnboundedSender<Run>,
    manners: Manners,
}

#[async_trait]
impl Runner for Puppet {
    async fn run(&self, job: Job) -> Result<Report, RunFailure> {
        assert!(job.record.submission.goal != BREAKS, "as the test wants it");
        let (end, ended) = oneshot::channel();
        let mut cancel = job.desk.cancel();
        self.runs.send(Run { record: job.record, desk: job.desk, end }).map_err(|_| RunFailure::Permanent("the test is over".into()))?;
        let told = async {
            match self.manners {
                Manners::Obedient => drop(cancel.wait_for(|cancelled| *cancelled).await),
                Manners::Deaf => std::future::pending().await,
            }
        };
        let ended = async {
            match ended.await {
                Ok(result) => result,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            result = ended => result,
            () = told => Ok(report(Stop::Cancelled, None)),
        }
    }
}

/// Delivers by HTTP.
struct Http(reqwest::Client);

#[async_trait]
impl Deliver for Http {
    async fn deliver(&self, delivery: &Delivery) -> Result<u16, String> {
        let mut request = self.0.post(delivery.url.clone()).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(*name, value);
        }
        request.send().await.map(|response| response.status().as_u16()).map_err(|error| error.to_string())
    }
}

/// A service with its runs.
pub struct Stage {
    pub service: Service,
    pub episodes: Arc<SqliteStore>,
    runs: Mutex<mpsc::UnboundedReceiver<Run>>,
}

impl Stage {
    pub async fn open(directory: &Path, config: ServiceConfig, manners: Manners) -> Self {
        let (sender, runs) = mpsc::unbounded_channel();
        let episodes = Arc::new(SqliteStore::open(directory).await.unwrap());
        let ports = Ports {
            runner: Arc::new(Puppet { runs: sender, manners }),
            episodes: episodes.clone(),
            deliver: Arc::new(Http(reqwest::Client::new())),
        };
        let service = Service::open(directory, config, ports).await.unwrap();
        Self { service, episodes, runs: Mutex::new(runs) }
    }

    /// The next run that starts.
    pub async fn run(&self) -> Run {
        timeout(PATIENCE, async { self.runs.lock().await.recv().await }).await.expect("no run starts").unwrap()
    }

    /// Whether a run waits to be taken over; everything submitted before must have been looked at.
    pub async fn idle(&self) -> bool {
        self.runs.lock().await.is_empty()
    }

    pub async fn submit(&self, submission: Submission) -> TaskRecord {
        self.service.submit("ana", submission).await.unwrap().record
    }

    /// The task as it stands after its first event of this kind after `after`.
    pub async fn after(&self, id: &str, after: u64, kind: &str) -> TaskRecord {
        let mut events = self.service.events(id, after).await.unwrap();
        let wait = async {
            while let Some(event) = events.next().await {
                if event.unwrap().kind.word() == kind {
                    return self.service.get(id).await.unwrap();
                }
            }
            panic!("task {id} ended without {kind}: {:?}", self.service.get(id).await)
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {kind} for task {id}"))
    }

    /// All events of a task that ended or is stored so far.
    pub async fn words(&self, id: &str) -> Vec<&'static str> {
        let seqs = self.service.get(id).await.unwrap().last_seq;
        let mut events = self.service.events(id, 0).await.unwrap();
        let mut words = Vec::new();
        for seq in 1..=seqs {
            let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
            assert_eq!((event.seq, event.task.as_str()), (seq, id));
            words.push(event.kind.word());
        }
        words
    }
}

/// Short times, one worker.
pub fn config() -> ServiceConfig {
    ServiceConfig { workers: 1, retry_after_seconds: 0, cancel_seconds: 4, lease_seconds: 60, ..ServiceConfig::default() }
}

pub fn task(goal: &str) -> Submission {
    Submission::new(goal, "http://shop.local/".parse().unwrap())
}

pub fn step(turn: u32) -> EventKind {
    EventKind::Step { turn, action: format!("click {turn}"), ok: true, error: None, url: "http://shop.local/".into(), screenshot: None }
}

pub fn numbers(events: &[Arc<TaskEvent>]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

/// A process with a service: `kill` stops it wherever it is, as `kill -9` does.
pub struct Process {
    runtime: Runtime,
    pub stage: Stage,
}

impl Process {
    pub fn start(directory: &Path, config: ServiceConfig) -> Self {
        let runtime = Runtime::new().unwrap();
        let stage = runtime.block_on(Stage::open(directory, config, Manners::Deaf));
        Self { runtime, stage }
    }

    pub fn within<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Nothing runs any more when this returns; nothing was told to end.
    pub fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
        drop(self.stage);
    }
}

pub fn state(record: &TaskRecord) -> (TaskState, u32) {
    (record.state, record.attempts)
}
