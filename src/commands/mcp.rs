//! `milepost mcp`: web tasks for an MCP client that starts this program.

use anyhow::Result;

use super::cancellation;
use crate::config::Config;
use crate::exit::Exit;
use crate::serve;

/// Speaks MCP over stdin and stdout.
pub async fn mcp(config: Config) -> Result<Exit> {
    serve::mcp_stdio(config, cancellation()).await
}
