//! The tool `fetch`: reads a document of the site without the browser.

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

/// Reads an address by GET: JSON comes back compact, other text with its white space folded. A redirect to another host is told, not followed.
#[derive(Clone, Debug)]
pub struct FetchTool {
    client: Client,
}

impl FetchTool {
    /// The tool, going through `proxy` where one is given (`http://host:port`).
    ///
    /// # Errors
    /// A proxy address that cannot be read.
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
            // Only the configured proxy counts, not one that the environment happens to name.
            None => builder.no_proxy(),
        };
        let client = builder.build().map_err(|error| Error::Environment(format!("the http client of `fetch` does not start: {error}")))?;
        Ok(Self { client })
    }

    async fn get(&self, target: &str, task: &Task) -> std::result::Result<Response, String> {
        let mut url = task.start_url.join(target).map_err(|error| format!("{target:?} is no address: {error}"))?;
        for _ in 0..=MAX_REDIRECTS {
            if !task.capability.allows_url(&url) {
                return Err(format!("{url} is outside the hosts this task may reach ({})", task.capability.hosts.join(", ")));
            }
            let response =
                self.client.get(url.clone()).send().await.map_err(|error| format!("{url} cannot be fetched: {}", cause(&error)))?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match location.filter(|_| response.status().is_redirection()) {
                Some(location) => {
                    let next = url.join(location).map_err(|error| format!("{url} leads to {location:?}, which is no address: {error}"))?;
                    // Every host that is read stands in a recorded action: what is quarantined is found there.
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

/// Name and arguments of `fetch`.
pub fn form() -> ToolForm {
    let schema = json!({
        "type": "object",
        "properties": { "url": { "type": "string", "maxLength": 200 } },
        "required": ["url"],
        "additionalProperties": false,
    });
    ToolForm { name: "fetch".into(), schema }
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
        let said = match self.get(target, task).await {
            Ok(response) => read(response).await,
            Err(reason) => Err(reason),
        };
        said.map_err(Error::BadInput)
    }
}

async fn read(mut response: Response) -> std::result::Result<String, String> {
    let status = response.status();
    let url: Url = response.url().clone();
    let json = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| kind.contains("json"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| format!("{url} broke off: {}", cause(&error)))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("{url} is larger than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let text = readable(json, &body);
    if status.is_success() { Ok(text) } else { Err(format!("{url} answered {status}: {}", text.chars().take(200).collect::<String>())) }
}

/// A document as the agent reads it: JSON compact, other text with its white space folded, at most 2,000 characters.
pub fn readable(json: bool, body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if json => value.to_string(),
        _ => milepost_runtime::text::squash(&String::from_utf8_lossy(body)).chars().take(MAX_TEXT).collect(),
    }
}

fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
