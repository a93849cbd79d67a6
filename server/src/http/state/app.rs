//! The state that every handler sees.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::response::Response;
use metrics_exporter_prometheus::PrometheusHandle;
use milepost_improve::daemon::{Deployment, Improvement};
use milepost_runtime::{Observation, SqliteStore, Task};
use milepost_service::{RequestIds, Service};

use super::schemas::Schemas;
use crate::config::ServeConfig;
use crate::http::auth::{HostAndOriginPolicy, Sessions, Tokens};

/// Opens a page and observes it without an agent; for the MCP tool `observe`.
#[async_trait]
pub trait PageObserver: Send + Sync {
    /// Opens the task's start page in a new browser and returns its observation.
    ///
    /// # Errors
    /// The browser cannot be started, or the page cannot be opened.
    async fn observe(&self, task: &Task) -> milepost_runtime::Result<Observation>;
}

/// How the chat endpoint answers with the policy's model.
#[derive(Clone, Copy, Debug)]
pub struct ChatSettings {
    /// The sampling temperature of a request that names none.
    pub temperature: f32,
    /// The maximum number of completion tokens of a request that names none.
    pub max_tokens: usize,
    /// Whether the engine can constrain a completion to a schema.
    pub grammar: bool,
    /// Whether the engine reports the token that ends a completion.
    pub reports_end_token: bool,
}

/// The settings that handlers need, from all sections of the configuration.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Section `serve` of the configuration.
    pub serve: ServeConfig,
    /// How long running tasks may take to end when the daemon shuts down.
    pub drain: Duration,
    /// The number of workers.
    pub workers: usize,
    /// The settings of the chat endpoint.
    pub chat: ChatSettings,
    /// The maximum number of page lines of an observation that is shown.
    pub page_lines: usize,
    /// The directory of the episodes, which also holds their screenshots.
    pub episodes: PathBuf,
    /// The names of the secrets that tasks may use.
    pub secrets: Vec<String>,
    /// The maximum number of actions of a task that sets none.
    pub max_steps: u32,
    /// The planner of a task that names none.
    pub planner: String,
}

/// The daemon's parts, which the program makes and passes in.
pub struct Parts {
    /// The settings that handlers need.
    pub settings: ServerSettings,
    /// The queue, its workers, approvals and events.
    pub service: Service,
    /// The engine in service and the registry of generations.
    pub deployment: Arc<Deployment>,
    /// The improvement loop.
    pub improvement: Arc<Improvement>,
    /// The store of recorded episodes.
    pub store: Arc<SqliteStore>,
    /// Observes a page for the MCP tool `observe`.
    pub observer: Arc<dyn PageObserver>,
    /// The id of the request that submitted each task.
    pub request_ids: Arc<RequestIds>,
    /// The tokens that callers authenticate with.
    pub tokens: Tokens,
    /// Renders the recorded metrics as text.
    pub metrics: PrometheusHandle,
}

/// The parts, with the state that the server itself adds to them.
pub struct AppState {
    /// The parts that the program passed in.
    parts: Parts,
    /// The sessions of callers who signed in by cookie.
    pub sessions: Sessions,
    /// The host names under which requests may reach the daemon, and the origins whose pages may call it.
    pub host_and_origin_policy: HostAndOriginPolicy,
    /// The validators of all request bodies.
    pub(crate) schemas: Schemas,
    /// Renders the page that asks for the token, for a browser that sends none.
    pub(crate) sign_in_page: fn() -> Response,
    /// Whether the daemon accepts tasks.
    ready: AtomicBool,
}

/// The daemon's state as handlers see it; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<AppState>);

impl App {
    /// Makes the state. The router calls this with the schemas and the sign-in page of this crate.
    pub(crate) fn new(parts: Parts, schemas: Schemas, sign_in_page: fn() -> Response) -> Self {
        let host_and_origin_policy = HostAndOriginPolicy::new(&parts.settings.serve);
        let (sessions, ready) = (Sessions::default(), AtomicBool::new(false));
        Self(Arc::new(AppState { parts, sessions, host_and_origin_policy, schemas, sign_in_page, ready }))
    }

    /// Sets whether the daemon accepts tasks: it does not before everything runs, nor while it drains.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Release);
    }

    /// Returns true if the daemon accepts tasks.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }
}

impl Deref for App {
    type Target = AppState;
    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl Deref for AppState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}
