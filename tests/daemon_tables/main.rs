//! The daemon's figures: the real binary with the seed model and real Chromium under load, kills, crowds and odd requests.
//!
//! Each row runs once with small counts; `make test-daemon` raises them (`DAEMON_KILLS`, `DAEMON_TASKS`, `DAEMON_CROWD`, `DAEMON_EXAMPLES`,
//! `DAEMON_PAIRS`, `DAEMON_ROUND_TASKS`) and collects what each row measured from `DAEMON_FIGURES`. Nothing here refers to the library,
//! so that this target links in seconds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crowd;
mod figures;
mod fuzz;
#[path = "../daemon/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the daemon, which use the rest")]
mod harness;
mod kills;
mod overhead;
mod processes;
mod queue;
mod round;
mod site;

use std::path::Path;

use harness::Daemon;

/// Starts the daemon with these settings beside the usual ones.
pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Daemon {
    tokio::task::block_in_place(|| Daemon::start(directory, settings))
}
