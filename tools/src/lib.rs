//! Browser (WebDriver), egress proxy, http fetch, MCP client.

pub mod browser;
pub mod egress;
pub mod fetch;
pub mod mcp;
pub mod owned;
pub mod plain;
