//! Tests of the daemon through its interfaces: the real binary with the seed model and real Chromium, on the bundled suite's sites.
//!
//! `DAEMON_FOLLOWERS` is the number of followers of a task.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod attacks;
mod chromium;
mod client_command;
mod clients;
mod crashes;
mod deploy;
mod document;
mod full_disk;
mod harness;
mod improvement;
mod mcp_client;
mod measurements;
mod profiles;
mod start_errors;
mod visited_site;
mod web_page;
mod webhooks;
