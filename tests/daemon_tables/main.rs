//! The daemon's figures: the real binary with the seed model and real Chromium under load, kills, crowds and odd requests.
//!
//! Each row runs once with small counts; `make test-daemon` raises them (`DAEMON_KILLS`, `DAEMON_TASKS`, `DAEMON_CROWD`, `DAEMON_EXAMPLES`,
//! `DAEMON_PAIRS`, `DAEMON_ROUND_TASKS`) and collects what each row measured from `DAEMON_FIGURES`. Nothing here refers to the library,
//! so that this target links in seconds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crowd;
#[path = "../daemon/figures.rs"]
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
use std::time::Duration;

use harness::Daemon;

/// Starts the daemon with these settings beside the usual ones.
pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Daemon {
    tokio::task::block_in_place(|| Daemon::start(directory, settings))
}

/// The value below which this share of the times lies, in milliseconds.
pub fn quantile_ms(times: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    (sorted[rank.clamp(1, sorted.len()) - 1] * 1e5).round() / 100.0
}
