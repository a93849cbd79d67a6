//! The daemon: `milepost serve` maps HTTP to the service, the engine and the registry.
//!
//! [`App`] is what every handler sees. [`router`] puts the parts together, one line each; [`auth::guard`] stands before all of them.

pub mod auth;
pub mod canary;
pub mod config;
mod deliver;
pub mod improve;
mod listen;
mod live;
mod mcp;
pub mod metered;
mod observability;
pub mod openai;
pub mod payload;
pub mod problem;
mod requests;
mod rest;
mod rest_of_body;
pub mod router;
mod runner;
mod start;
mod telemetry;
mod web;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::response::Response;
use metrics_exporter_prometheus::PrometheusHandle;
use milepost_runtime::{DirectoryRegistry, SqliteStore};
use milepost_service::Service;

use crate::config::Config;
use crate::wiring::Mind;

pub use mcp::stdio as mcp_stdio;
pub use requests::{RequestId, Requests};
pub use runner::observe;
pub use start::{Start, serve};

/// What every handler sees; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The daemon's parts.
pub struct Parts {
    /// The configuration in force.
    pub config: Config,
    /// The queue, its workers, approvals and events.
    pub service: Service,
    /// The one engine of all workers, with its prompts.
    pub mind: Arc<Mind>,
    /// Generations of adapters.
    pub registry: DirectoryRegistry,
    /// Recorded episodes.
    pub store: Arc<SqliteStore>,
    /// Who may come in.
    pub tokens: auth::Tokens,
    /// Who is signed in by cookie.
    pub sessions: auth::Sessions,
    /// Under which names the daemon is asked for, and whose pages may ask.
    pub doors: auth::Doors,
    /// The figures.
    pub metrics: PrometheusHandle,
    /// The improvement loop.
    pub improvement: improve::Improvement,
    /// A new generation on trial.
    pub canary: Arc<canary::Canary>,
    /// Verified live outcomes of what serves.
    pub live: live::LiveWatch,
    /// Which request handed which task in.
    pub requests: Arc<Requests>,
    /// The page that asks for the token, where a person's browser comes without one.
    pub sign_in_page: Option<fn() -> Response>,
    /// Whether the daemon takes work: not before everything runs, and not in a drain.
    pub ready: AtomicBool,
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// An app of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

/// The daemon's directory: its queue, tokens, named profiles.
pub fn directory(config: &Config) -> PathBuf {
    config.serve.directory.clone().unwrap_or_else(|| config.episodes.directory.join("service"))
}

/// The administrator's token file.
pub fn token_file(config: &Config) -> PathBuf {
    config.serve.token_file.clone().unwrap_or_else(|| directory(config).join("token"))
}
