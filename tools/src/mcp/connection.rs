//! A connection to a server; one that broke is made again by the next call.

use std::collections::HashMap;
use std::time::Duration;

use milepost_runtime::{Error, Result};
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, JsonObject, Tool};
use rmcp::service::{Peer, RoleClient, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ServiceError, ServiceExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::config::{McpServerConfig, variable};

/// What a started server sees of this process's environment.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

type Running = RunningService<RoleClient, ClientConfig>;

pub(super) struct Connection {
    config: McpServerConfig,
    running: Mutex<Running>,
}

impl Connection {
    pub(super) async fn open(config: McpServerConfig) -> Result<Self> {
        let running = Mutex::new(connect(&config).await?);
        Ok(Self { config, running })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_seconds)
    }

    pub(super) async fn tools(&self) -> Result<Vec<Tool>> {
        let peer = self.peer().await?;
        within(self.timeout(), peer.list_all_tools()).await
    }

    pub(super) async fn call(&self, tool: &str, arguments: JsonObject) -> Result<CallToolResult> {
        let peer = self.peer().await?;
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        // Not tried again: whether a call that broke off was carried out, nobody knows.
        within(self.timeout(), async {
            match peer.call_tool_once(request).await? {
                rmcp::model::CallToolResponse::Complete(result) => Ok(result),
                _ => Err(ServiceError::UnexpectedResponse),
            }
        })
        .await
    }

    /// The server, connected anew where the connection broke.
    async fn peer(&self) -> Result<Peer<RoleClient>> {
        let mut running = self.running.lock().await;
        if running.is_closed() || running.is_transport_closed() {
            tracing::warn!("an MCP server is gone and is connected to again");
            *running = connect(&self.config).await?;
        }
        Ok(running.peer().clone())
    }
}

async fn within<T>(timeout: Duration, answer: impl Future<Output = Result<T, ServiceError>>) -> Result<T> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.map_err(|error| Error::Environment(error.to_string())),
        Err(_) => Err(Error::Environment(format!("it did not answer within {} s (`timeout_seconds`)", timeout.as_secs()))),
    }
}

async fn connect(config: &McpServerConfig) -> Result<Running> {
    let timeout = Duration::from_secs(config.timeout_seconds);
    let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("milepost", env!("CARGO_PKG_VERSION")));
    let begun = async {
        match (&config.command, &config.url) {
            (Some(command), None) => {
                client.serve(start(command, config)?).await.map_err(|error| Error::Environment(format!("{command}: {error}")))
            }
            (None, Some(url)) => {
                let transport = StreamableHttpClientTransport::from_config(address(url.as_str(), config)?);
                client.serve(transport).await.map_err(|error| Error::Environment(format!("{url}: {error}")))
            }
            _ => Err(Error::BadInput("it needs either `command` or `url`".into())),
        }
    };
    match tokio::time::timeout(timeout, begun).await {
        Ok(begun) => begun,
        Err(_) => Err(Error::Environment(format!("it did not begin within {} s (`timeout_seconds`)", config.timeout_seconds))),
    }
}

/// Starts a server; it ends when its connection does.
fn start(program: &str, config: &McpServerConfig) -> Result<TokioChildProcess> {
    let mut command = Command::new(program);
    command.args(&config.args).env_clear().kill_on_drop(true);
    command.envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    for (name, value) in &config.env {
        command.env(name, variable(value)?);
    }
    TokioChildProcess::new(command)
        .map_err(|error| Error::BadInput(format!("{program:?} cannot be started: {error}; give the program's whole path in `command`")))
}

fn address(url: &str, config: &McpServerConfig) -> Result<StreamableHttpClientTransportConfig> {
    let mut transport = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(HashMap::new());
    if let Some(name) = &config.bearer_env {
        transport = transport.auth_header(variable(&format!("env:{name}"))?);
    }
    Ok(transport)
}
