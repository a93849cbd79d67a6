//! Section `mcp` of the configuration: servers whose tools the agent may call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

/// Whether a call needs a person's approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person decides on each call, unless the task itself names the tool. A run that no person oversees ends at such a call.
    #[default]
    Ask,
    /// Calls are carried out without approval.
    Allow,
}

/// The configuration of one server: a program to start, or an address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServerConfig {
    /// The program to start. It must speak MCP over stdin and stdout.
    pub command: Option<String>,
    /// The program's arguments.
    pub args: Vec<String>,
    /// The program's environment variables, in addition to `PATH`, `HOME`, `LANG` and `TMPDIR`. The value `env:VARIABLE` copies a variable
    /// of this process.
    pub env: BTreeMap<String, String>,
    /// The address of a running server, which must speak streamable HTTP.
    pub url: Option<Url>,
    /// The environment variable that holds the bearer token for `url`.
    pub bearer_env: Option<String>,
    /// The server's tools that may be used; all of them when not given.
    pub tools: Option<Vec<String>>,
    /// Whether a call needs a person's approval.
    pub approval: Approval,
    /// The maximum time that connecting, and each call, may take; seconds.
    pub timeout_seconds: u64,
}

impl Default for McpServerConfig {
    fn default() -> Self {
        Self {
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            url: None,
            bearer_env: None,
            tools: None,
            approval: Approval::default(),
            timeout_seconds: 60,
        }
    }
}
