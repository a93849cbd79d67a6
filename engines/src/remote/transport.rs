//! HTTP with a timeout, an API key from the environment, and two retries when the server is busy.

use std::time::Duration;

use milepost_runtime::{Error, Result};
use reqwest::{Response, StatusCode, header};
use serde_json::Value;

use super::config::RemoteModelConfig;
use crate::failed;

/// The maximum number of retries after the first attempt.
const MAX_RETRIES: u32 = 2;
/// The maximum wait that a server may request with `Retry-After`.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A client for one server.
#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    url: String,
    key: Option<Key>,
}

/// An API key, which `Debug` does not print.
struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Transport {
    /// Creates a client; it reads the API key from the environment.
    pub(super) fn new(config: &RemoteModelConfig) -> Result<Self> {
        let key = match config.api_key_env.as_str() {
            "" => None,
            name => Some(Key(std::env::var(name).map_err(|_| {
                Error::BadInput(format!(
                    "remote.api_key_env names {name}, which is not set; export it, or leave the key empty for a server without one"
                ))
            })?)),
        };
        let timeout = Duration::from_secs(config.timeout_seconds.max(1));
        let client = reqwest::Client::builder().timeout(timeout).build().map_err(|error| failed(format!("no HTTP client: {error}")))?;
        let url = config.url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Ok(Self { client, url, key })
    }

    /// Posts JSON and parses the response as JSON.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let text = self.post_text(path, body).await?;
        serde_json::from_str(&text).map_err(|error| {
            let beginning: String = text.chars().take(200).collect();
            failed(format!("{}{path} answered no JSON ({error}): {beginning}", self.url))
        })
    }

    /// Posts JSON and returns the response as text.
    pub(super) async fn post_text(&self, path: &str, body: &Value) -> Result<String> {
        let mut tried = 0;
        loop {
            let wait = match self.post_once(path, body).await {
                Ok(response) if response.status().is_success() => {
                    return response.text().await.map_err(|error| failed(format!("{}{path}: the answer broke off: {error}", self.url)));
                }
                Ok(response) if tried < MAX_RETRIES && is_temporary(response.status()) => {
                    retry_after(&response).unwrap_or_else(|| backoff(tried))
                }
                Ok(response) => return Err(self.refusal(path, response).await),
                Err(error) if tried < MAX_RETRIES && error.is_connect() => backoff(tried),
                Err(error) if error.is_timeout() => {
                    return Err(failed(format!(
                        "{}{path} did not answer in time; raise remote.timeout_seconds or lower the load",
                        self.url
                    )));
                }
                Err(error) => {
                    return Err(failed(format!("{}{path} cannot be reached ({error}); start the server or correct remote.url", self.url)));
                }
            };
            tried += 1;
            tracing::warn!(url = self.url, path, tried, ?wait, "the server is not ready; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Posts JSON in one attempt.
    async fn post_once(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        let mut request = self.client.post(format!("{}{path}", self.url)).json(body);
        if let Some(Key(key)) = &self.key {
            request = request.bearer_auth(key);
        }
        request.send().await
    }

    /// Makes the error of a response with an error status, with the fix that the status suggests.
    async fn refusal(&self, path: &str, response: Response) -> Error {
        let status = response.status();
        let fix = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; put the key's variable into remote.api_key_env",
            StatusCode::NOT_FOUND => "; check remote.url, and remote.model against /v1/models",
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "; check remote.grammar: the server may take grammars otherwise",
            _ => "",
        };
        let text: String = response.text().await.unwrap_or_default().chars().take(300).collect();
        failed(format!("{}{path} answered {status}{fix}: {text}", self.url))
    }
}

/// Returns whether the same request may succeed later.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Returns the wait that the server requests.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Returns the wait before a retry: 0.5 s, then twice as long each time.
fn backoff(tried: u32) -> Duration {
    Duration::from_millis(500) * 2_u32.pow(tried)
}
