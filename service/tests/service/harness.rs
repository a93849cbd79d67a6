//! A service whose runs are controlled by the test, and a simulated process that can be killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use milepost_runtime::{SqliteStore, Stop};
use milepost_service::{
    ApprovalRequest, EventKind, Job, Ports, Report, RunFailure, Runner, Service, ServiceConfig, Submission, TaskEvent, TaskHandle,
    TaskRecord, TaskState, WebhookRequest, WebhookSender,
};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

/// The maximum time that a test waits for anything.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A run that the test controls. If `end` is dropped, the run continues for ever.
pub struct StartedRun {
    pub record: TaskRecord,
    pub handle: TaskHandle,
    pub end: oneshot::Sender<Result<Report, RunFailure>>,
}

impl StartedRun {
    /// Ends the run with an answer.
    pub fn answer(self, text: &str) {
        self.end.send(Ok(report(Stop::Answered, Some(text)))).unwrap();
    }
}

pub fn report(stop: Stop, answer: Option<&str>) -> Report {
    Report { stop, answer: answer.map(str::to_owned), output: None, success: None, episode: None }
}

/// The behaviour of a run that is asked to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnCancel {
    /// The run ends as cancelled.
    Ends,
    /// The run continues.
    Ignores,
}

/// A goal on which the runner panics.
pub const PANICKING_GOAL: &str = "break";

/// A goal that the runner refuses when it is checked.
pub const REFUSED_GOAL: &str = "refuse";

/// A runner whose runs the test ends.
struct ManualRunner {
    runs: mpsc::UnboundedSender<StartedRun>,
    on_cancel: OnCancel,
}

#[async_trait]
impl Runner for ManualRunner {
    fn check(&self, submission: &Submission) -> Result<(), String> {
        if submission.goal == REFUSED_GOAL { Err("the runner refuses this goal".into()) } else { Ok(()) }
    }

    async fn run(&self, job: Job) -> Result<Report, RunFailure> {
        assert!(job.record.submission.goal != PANICKING_GOAL, "as the test wants it");
        let (end, ended) = oneshot::channel();
        let cancellation = job.handle.cancellation_token();
        self.runs
            .send(StartedRun { record: job.record, handle: job.handle, end })
            .map_err(|_| RunFailure::Permanent("the test is over".into()))?;
        let cancelled = async {
            match self.on_cancel {
                OnCancel::Ends => cancellation.cancelled().await,
                OnCancel::Ignores => std::future::pending().await,
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
            () = cancelled => Ok(report(Stop::Cancelled, None)),
        }
    }
}

/// Sends webhooks over HTTP.
struct HttpSender(reqwest::Client);

#[async_trait]
impl WebhookSender for HttpSender {
    async fn send(&self, webhook: &WebhookRequest) -> Result<u16, String> {
        let mut request = self.0.post(webhook.url.clone()).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(*name, value);
        }
        request.send().await.map(|response| response.status().as_u16()).map_err(|error| error.to_string())
    }
}

/// A service and its runs.
pub struct Harness {
    pub service: Service,
    pub episodes: Arc<SqliteStore>,
    runs: Mutex<mpsc::UnboundedReceiver<StartedRun>>,
}

impl Harness {
    pub async fn open(directory: &Path, config: ServiceConfig, on_cancel: OnCancel) -> Self {
        let (sender, runs) = mpsc::unbounded_channel();
        let episodes = Arc::new(SqliteStore::open(directory).await.unwrap());
        let ports = Ports {
            runner: Arc::new(ManualRunner { runs: sender, on_cancel }),
            episodes: episodes.clone(),
            webhook_sender: Arc::new(HttpSender(reqwest::Client::new())),
        };
        let service = Service::open(directory, config, ports).await.unwrap();
        Self { service, episodes, runs: Mutex::new(runs) }
    }

    /// Waits for the next run to start.
    pub async fn next_run(&self) -> StartedRun {
        timeout(TIMEOUT, async { self.runs.lock().await.recv().await }).await.expect("no run starts").unwrap()
    }

    /// Returns true if every run that has started was taken by `next_run`. The caller makes sure that the dispatcher has checked the queue.
    pub async fn no_run_is_waiting(&self) -> bool {
        self.runs.lock().await.is_empty()
    }

    pub async fn submit(&self, submission: Submission) -> TaskRecord {
        self.service.submit("ana", submission).await.unwrap().record
    }

    /// Waits for the task's first event of a kind after the event number `after`, and returns the task's record then.
    pub async fn after_event(&self, id: &str, after: u64, kind: &str) -> TaskRecord {
        let mut events = self.service.events(id, after).await.unwrap();
        let wait = async {
            while let Some(event) = events.next().await {
                if event.unwrap().kind.word() == kind {
                    return self.service.get(id).await.unwrap();
                }
            }
            panic!("task {id} ended without {kind}: {:?}", self.service.get(id).await)
        };
        timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("no {kind} for task {id}"))
    }

    /// Returns the kinds of all events of a task that are stored so far.
    pub async fn event_kinds(&self, id: &str) -> Vec<&'static str> {
        let last = self.service.get(id).await.unwrap().last_seq;
        let mut events = self.service.events(id, 0).await.unwrap();
        let mut words = Vec::new();
        for seq in 1..=last {
            let event = timeout(TIMEOUT, events.next()).await.unwrap().unwrap().unwrap();
            assert_eq!((event.seq, event.task.as_str()), (seq, id));
            words.push(event.kind.word());
        }
        words
    }
}

/// A configuration with one worker and short waits.
pub fn config() -> ServiceConfig {
    ServiceConfig { workers: 1, retry_after_seconds: 0, cancel_seconds: 4, lease_seconds: 60, ..ServiceConfig::default() }
}

pub fn submission(goal: &str) -> Submission {
    Submission::new(goal, "http://shop.local/".parse().unwrap())
}

pub fn approval_request() -> ApprovalRequest {
    ApprovalRequest { action: "goto \"http://other.local/\"".into(), reason: "outside".into(), url: None, screenshot: None }
}

pub fn step(turn: u32) -> EventKind {
    EventKind::Step { turn, action: format!("click {turn}"), ok: true, error: None, url: "http://shop.local/".into(), screenshot: None }
}

pub fn seqs(events: &[Arc<TaskEvent>]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

/// A simulated process with a service; `kill` stops it wherever it is, as `kill -9` does.
pub struct Process {
    runtime: Runtime,
    pub harness: Harness,
}

impl Process {
    pub fn start(directory: &Path, config: ServiceConfig) -> Self {
        let runtime = Runtime::new().unwrap();
        let harness = runtime.block_on(Harness::open(directory, config, OnCancel::Ignores));
        Self { runtime, harness }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Stops all work without asking it to end; nothing runs any more when this returns.
    pub fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
        drop(self.harness);
    }
}

pub fn state(record: &TaskRecord) -> (TaskState, u32) {
    (record.state, record.attempts)
}
