//! The MCP server: run, look at and cancel web tasks, look at a page, read episodes; over HTTP behind the guard, or over stdio.

mod arguments;
mod http;
mod resources;
mod server;
mod stdio;
mod tools;

pub(super) use http::routes;
pub use stdio::run as stdio;
