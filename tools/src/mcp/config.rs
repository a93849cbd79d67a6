//! Section `mcp` of the configuration: servers whose tools the agent may call.

use std::collections::BTreeMap;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};
use url::Url;

/// Whether a call needs a person's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person decides each call (a run without one ends there), unless the task itself names the tool.
    #[default]
    Ask,
    /// Calls are carried out.
    Allow,
}

/// A server: a program that is started, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServerConfig {
    /// The program to start; it speaks MCP over stdin and stdout.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside `PATH`, `HOME`, `LANG` and `TMPDIR`; `env:VARIABLE` takes a variable of this process.
    pub env: BTreeMap<String, String>,
    /// The address of a server that speaks streamable HTTP.
    pub url: Option<Url>,
    /// The variable that holds that server's bearer token.
    pub bearer_env: Option<String>,
    /// The tools that may be used; all where none are named.
    pub tools: Option<Vec<String>>,
    /// Whether a call needs a person's word.
    pub approval: Approval,
    /// A start, and a call, takes at most so long.
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

/// A value of the configuration, or of a variable that it names.
pub(super) fn variable(value: &str) -> Result<String> {
    match value.strip_prefix("env:") {
        None => Ok(value.to_owned()),
        Some(name) => std::env::var(name).map_err(|_| Error::BadInput(format!("the variable {name} is not set; set it, or take it out"))),
    }
}
