//! The program: command line, configuration, and the wiring of concrete types to the runtime's traits.
//!
//! No logic of its own: what an agent does lives in the crates below; this is where they meet.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agreement;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod demonstrations;
pub mod exit;
pub mod experiment;
pub mod forgetful;
pub mod generations;
pub mod improve;
pub mod live;
pub mod progress;
pub mod rollouts;
pub mod serve;
pub mod serving;
pub mod transport;
pub mod wiring;
