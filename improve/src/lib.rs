//! Milepost's self-improvement: rounds of collecting, learning and gating, the experiments that measure them, and the daemon's side of it.
//!
//! The loop knows no model and no suite of tasks; the program injects them through the traits of [`host`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod agreement;
pub mod audit;
pub mod comparison;
pub mod config;
pub mod daemon;
pub mod dataset;
pub mod demonstrations;
pub mod error;
pub mod experiment;
pub mod experts;
pub mod failures;
pub mod gate;
pub mod generations;
pub mod host;
pub mod pass_at_k;
pub mod phases;
pub mod play;
pub mod progress;
pub mod recorded;
pub mod rollouts;
pub mod rounds;
pub mod run;
pub mod run_settings;
pub mod runs;
pub mod schedule;
pub mod settings;
pub mod stages;
pub mod statistics;
pub mod suite_report;
pub mod supervised;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod update;

pub use error::{Error, Result};
