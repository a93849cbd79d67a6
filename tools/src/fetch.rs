//! The tool `fetch`: reads a document of a site without the browser.

use std::time::Duration;

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::{Error, Result, Task, Tool};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, redirect};
use serde_json::{Value, json};
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 100_000;
const MAX_TEXT: usize = 2_000;
const MAX_REDIRECTS: usize = 5;

/// Reads an address by GET and returns JSON compact and other text with its white space collapsed. A redirect to another host is reported,
/// not followed.
#[derive(Clone, Debug)]
pub struct FetchTool {
    client: Client,
}

impl FetchTool {
    /// Makes the tool. Its requests go through `proxy` where one is given (`http://host:port`).
    ///
    /// # Errors
    /// The proxy's address cannot be parsed, or the HTTP client does not start.
    pub fn new(proxy: Option<&str>) -> Result<Self> {
        let builder = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("milepost/", env!("CARGO_PKG_VERSION")));
        let builder = match proxy {
            Some(address) => {
                let bad = |error: reqwest::Error| {
                    Error::BadInput(format!("the proxy {address:?} of `fetch` cannot be used: {error}; give http://host:port"))
                };
                let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
                builder.proxy(reqwest::Proxy::all(address).map_err(bad)?)
            }
            // Only the configured proxy is used, never one from the environment's variables.
            None => builder.no_proxy(),
        };
        let client = builder.build().map_err(|error| Error::Environment(format!("the http client of `fetch` does not start: {error}")))?;
        Ok(Self { client })
    }

    /// Sends the request and follows redirects on the same host, as far as the task's capability allows the addresses.
    async fn get(&self, target: &str, task: &Task) -> std::result::Result<Response, String> {
        let mut url = task.start_url.join(target).map_err(|error| format!("{target:?} is no address: {error}"))?;
        for _ in 0..=MAX_REDIRECTS {
            if !task.capability.allows_url(&url) {
                return Err(format!("{url} is outside the hosts this task may reach ({})", task.capability.hosts.join(", ")));
            }
            let response =
                self.client.get(url.clone()).send().await.map_err(|error| format!("{url} cannot be fetched: {}", root_cause(&error)))?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match location.filter(|_| response.status().is_redirection()) {
                Some(location) => {
                    let next = url.join(location).map_err(|error| format!("{url} leads to {location:?}, which is no address: {error}"))?;
                    // Every host that is read must be in a recorded action, because the quarantine of hosts searches the recorded actions.
                    if next.host() != url.host() && task.capability.allows_url(&next) {
                        return Err(format!("{url} leads to {next} on another host; fetch that address"));
                    }
                    url = next;
                }
                None => return Ok(response),
            }
        }
        Err(format!("{target} redirects more than {MAX_REDIRECTS} times"))
    }
}

/// The name of `fetch` and the schema of its arguments.
pub fn form() -> ToolForm {
    let schema = json!({
        "type": "object",
        "properties": { "url": { "type": "string", "maxLength": 200 } },
        "required": ["url"],
        "additionalProperties": false,
    });
    let description = "Fetches a document over HTTP and returns its text.".into();
    ToolForm { name: "fetch".into(), description, schema }
}

#[async_trait]
impl Tool for FetchTool {
    fn form(&self) -> ToolForm {
        form()
    }

    fn changes(&self) -> bool {
        false
    }

    async fn call(&self, arguments: &Value, task: &Task) -> Result<String> {
        let target = arguments
            .get("url")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::BadInput("`fetch` needs the argument `url` (a string)".into()))?;
        let document = match self.get(target, task).await {
            Ok(response) => read(response).await,
            Err(reason) => Err(reason),
        };
        document.map_err(Error::BadInput)
    }
}

/// Reads the body of a response, up to [`MAX_BYTES`]; a status other than success is an error.
async fn read(mut response: Response) -> std::result::Result<String, String> {
    let status = response.status();
    let url: Url = response.url().clone();
    let json = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| kind.contains("json"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| format!("{url} broke off: {}", root_cause(&error)))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("{url} is larger than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let text = readable(json, &body);
    if status.is_success() { Ok(text) } else { Err(format!("{url} answered {status}: {}", text.chars().take(200).collect::<String>())) }
}

/// Returns a document as the agent reads it: JSON compact and whole, other text with its white space collapsed and cut to 2,000 characters.
pub fn readable(json: bool, body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if json => value.to_string(),
        _ => milepost_runtime::text::squash(&String::from_utf8_lossy(body)).chars().take(MAX_TEXT).collect(),
    }
}

/// Returns the message of the innermost error.
fn root_cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
