//! The daemon's REST API.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::error::ClientError;

/// The time limit of a request that is no stream. It is long because a promotion loads and proves its generation first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The task waits for a worker.
    Queued,
    /// A worker carries out the task.
    Running,
    /// A person must decide about an action.
    NeedsApproval,
    /// The run died after it had acted, and a person must decide whether to start the task again.
    Interrupted,
    /// The agent answered.
    Done,
    /// The task ended without an answer.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

impl TaskState {
    /// Returns the name of the state in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::NeedsApproval => "needs_approval",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The parts of a task that the client reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The task's id.
    pub id: String,
    /// The task's state.
    pub state: TaskState,
    /// The goal in words.
    pub goal: String,
    /// Why the task ended, as one word.
    pub stop: Option<String>,
    /// Why the task ended or was interrupted, in words.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The verified outcome; `None` if it was not verified.
    pub success: Option<bool>,
    /// The caller's own check of whether the task is done.
    pub check: Option<String>,
}

impl Task {
    /// Returns whether the task was answered, but its check could not be decided.
    pub fn is_undecided(&self) -> bool {
        self.state == TaskState::Done && self.check.is_some() && self.success.is_none()
    }
}

/// The daemon's API at one address, with a token.
#[derive(Clone, Debug)]
pub struct Api {
    server: Url,
    token: String,
    http: reqwest::Client,
}

impl Api {
    /// Makes a client for the daemon at this address; nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(server: Url, token: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("milepost-client/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| ClientError::Unreachable { address: server.to_string(), reason: innermost_cause(&error) })?;
        Ok(Self { server, token: token.trim().to_owned(), http })
    }

    /// Builds a request for a path, whose parts are escaped.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.server.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request; a response without success becomes an error with the daemon's own explanation.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        let detail = serde_json::from_str::<Value>(&body).ok().and_then(|problem| Some(problem["detail"].as_str()?.to_owned()));
        Err(ClientError::Refused { status: status.as_u16(), detail: detail.unwrap_or_else(|| format!("the daemon answered {status}")) })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text)
            .map_err(|error| ClientError::UnexpectedAnswer { address: self.server.to_string(), reason: error.to_string() })
    }

    /// Reads the resource at a path, as in `["v1", "tasks"]`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// Posts a JSON body to a path and reads the answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a task; its fields are those of `POST /v1/tasks` in the API's document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn submit(&self, task: &impl Serialize) -> Result<Task, ClientError> {
        self.post(&["v1", "tasks"], task).await
    }

    /// Reads the current state of a task, by its id or a unique prefix of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task(&self, id: &str) -> Result<Task, ClientError> {
        self.get(&["v1", "tasks", id], &[]).await
    }

    /// Makes an error of a connection that failed.
    pub(crate) fn unreachable(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Unreachable { address: self.server.to_string(), reason: innermost_cause(error) }
    }
}

/// Returns the innermost cause of an error, which is the most specific.
fn innermost_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
