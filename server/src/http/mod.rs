//! The daemon over HTTP, which the crate's feature `http` builds.
//!
//! From the lowest module to the highest: [`errors`], [`auth`], [`state`], [`request`] (processing of a request before its handler), then
//! the protocols [`rest`], [`openai`], [`mcp`] and [`web`] beside [`observability`], and at the top [`router`], [`listen`] and [`start`].

pub mod auth;
mod errors;
mod listen;
mod mcp;
mod observability;
mod openai;
mod request;
mod rest;
pub mod router;
mod start;
pub mod state;
mod web;

pub use errors::{Error, Result};
pub use mcp::{StdioEnd, serve_stdio};
pub use observability::{Telemetry, install_metrics_recorder, start_telemetry};
pub use start::{Listener, serve};
