//! Everything that a run acts with: the browser (WebDriver), the plain reader for pages without scripts, the egress proxy, the tool `fetch`
//! and the tools of MCP servers.

pub mod browser;
pub mod egress;
pub mod fetch;
pub mod mcp;
pub mod plain;
