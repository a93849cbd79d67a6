//! The MCP server: tools that run, show and cancel web tasks and observe a page, and episodes as resources; over HTTP behind the guard, or over
//! stdio.

mod arguments;
mod http;
mod resources;
mod server;
mod stdio;
mod tools;

pub(super) use http::routes;
pub use stdio::{StdioEnd, serve_stdio};
