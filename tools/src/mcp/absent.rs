//! The replacement of the MCP client in a build without the feature `mcp`.

use std::sync::Arc;

use milepost_runtime::{Error, Result, Tool};

use super::config::McpServerConfig;

/// Refuses every server.
///
/// # Errors
/// Always: this build has no MCP client.
pub(super) async fn connect(_: &str, _: &McpServerConfig) -> Result<Vec<Arc<dyn Tool>>> {
    Err(Error::BadInput(
        "this build has no MCP client; build one with `make build` or `cargo build --features mcp`, or take the server out of the configuration"
            .into(),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use crate::mcp::{McpServerConfig, McpTools};

    #[tokio::test]
    async fn no_servers_are_fine_and_a_server_is_refused_with_the_command_that_builds_the_client() {
        assert_eq!(McpTools::connect(&BTreeMap::new()).await.unwrap().tools().count(), 0);
        let servers = BTreeMap::from([("files".to_owned(), McpServerConfig::default())]);
        let refused = McpTools::connect(&servers).await.err().unwrap().to_string();
        for part in ["`mcp.files`", "`make build`", "`cargo build --features mcp`"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
