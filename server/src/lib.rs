//! Milepost's daemon over HTTP: it maps requests to the service, the engine and the registry of generations.
//!
//! The state that every handler sees is [`app::App`], and [`router`] puts the routes together. The server depends on no browser, planner or kind
//! of engine; the program passes them in.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod config;
#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use http::{
    Error, Listener, Result, StdioEnd, Telemetry, auth, install_metrics_recorder, router, serve, serve_stdio, start_telemetry, state as app,
};
