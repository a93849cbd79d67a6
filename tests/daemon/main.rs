//! The daemon as others meet it: the real binary with the seed model and real Chromium, on the bundled suite's sites.
//!
//! `DAEMON_KILLS` and `DAEMON_FOLLOWERS` raise the counts of the tables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod attacks;
mod chromium;
mod clients;
mod crashes;
mod deploy;
mod document;
mod figures;
mod harness;
mod mcp_client;
mod outside;
mod page;
mod starting;
mod terminal;

pub use figures::count;
