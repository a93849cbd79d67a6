//! The program: command line, configuration, and the wiring of concrete types to the traits of the crates.
//!
//! It has no logic of its own: the agent, the improvement loop and the daemon are in the crates.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod cli;
pub mod commands;
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod exit;
pub mod improve_host;
pub mod model;
pub mod output;
pub mod processor;
pub mod signals;
pub mod suite;
pub mod terminal;
pub mod wiring;
