//! MCP servers whose tools the agent calls: each is a [`Tool`] named `server.tool`.
//!
//! The client is built with the feature `mcp`. Without it the configuration is still read, and a configured server is refused.

#[cfg(not(feature = "mcp"))]
mod absent;
#[cfg(feature = "mcp")]
mod client;
mod config;

use std::collections::BTreeMap;
use std::sync::Arc;

use milepost_runtime::{Error, Result, Task, Tool};

#[cfg(not(feature = "mcp"))]
use absent as client;
pub use config::{Approval, McpServerConfig};

/// The tools of all configured servers.
#[derive(Clone, Default)]
pub struct McpTools {
    tools: Vec<Arc<dyn Tool>>,
    /// The names of the tools that may be called without a person's approval.
    allowed: Vec<String>,
}

impl McpTools {
    /// Connects to all servers and lists their tools.
    ///
    /// # Errors
    /// A server cannot be used, or this build has no MCP client. The message has the server's name, the reason and what to do.
    pub async fn connect(servers: &BTreeMap<String, McpServerConfig>) -> Result<Self> {
        let mut all = Self::default();
        for (name, config) in servers {
            let refuse = |error: Error| match error {
                Error::BadInput(reason) => Error::BadInput(format!("`mcp.{name}`: {reason}")),
                error => {
                    Error::Environment(format!("`mcp.{name}`: {error}; start or mend that server, or take it out of the configuration"))
                }
            };
            for tool in client::connect(name, config).await.map_err(refuse)? {
                if config.approval == Approval::Allow {
                    all.allowed.push(tool.form().name);
                }
                all.tools.push(tool);
            }
        }
        Ok(all)
    }

    /// Returns the tools.
    pub fn tools(&self) -> impl Iterator<Item = Arc<dyn Tool>> + '_ {
        self.tools.iter().cloned()
    }

    /// Adds the tools that need no approval to the task's capability. The other tools stay outside it, so that a person is asked about each
    /// call.
    pub fn allow(&self, task: &mut Task) {
        task.capability.tools.extend(self.allowed.iter().cloned());
    }
}
