//! The REST API from the other side.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::ClientError;

/// A request that is no stream is answered within this time: a promotion proves its generation first.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the client reads of a task.
#[derive(Clone, Debug, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: milepost_service::TaskState,
    /// The goal in words.
    pub goal: String,
    /// Why it ended, in a word.
    pub stop: Option<String>,
    /// Why it ended or was interrupted.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// Verified outcome.
    pub success: Option<bool>,
}

/// The daemon's API, with a token.
#[derive(Clone, Debug)]
pub struct Api {
    server: Url,
    token: String,
    http: reqwest::Client,
}

impl Api {
    /// The API at an address.
    ///
    /// # Errors
    /// No TLS can be set up.
    pub fn new(server: Url, token: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("milepost-client/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| ClientError::Unreachable { address: server.to_string(), reason: told(&error) })?;
        Ok(Self { server, token: token.trim().to_owned(), http })
    }

    /// A request for a path, whose parts are escaped.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.server.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request; what is no success becomes an error with the daemon's own words.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
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
        let response = self.send(request.timeout(PATIENCE)).await?;
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text).map_err(|error| ClientError::Strange { address: self.server.to_string(), reason: error.to_string() })
    }

    /// Reads what is at a path.
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// A task as it stands.
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn task(&self, id: &str) -> Result<Task, ClientError> {
        self.get(&["v1", "tasks", id], &[]).await
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { address: self.server.to_string(), reason: told(error) }
    }
}

/// The innermost cause, which says most.
fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
