//! The measurements of the daemon in `docs/serve.md`: the real binary with the seed model and real Chromium, under load, kills, many
//! followers and generated requests.
//!
//! The tests run with small counts; `make test-daemon` raises them (`DAEMON_KILLS`, `DAEMON_TASKS`, `DAEMON_CROWD`, `DAEMON_EXAMPLES`,
//! `DAEMON_PAIRS`, `DAEMON_ROUND_TASKS`) and collects the measurements from `DAEMON_FIGURES`. Nothing here uses the library `milepost`, so
//! that this target links in seconds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod followers;
mod fuzz;
#[path = "../daemon/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the daemon, which use the rest")]
mod harness;
mod kills;
#[path = "../daemon/measurements.rs"]
mod measurements;
mod overhead;
mod processes;
mod queue;
mod round;
mod site;

use std::path::Path;
use std::time::Duration;

use harness::Daemon;

/// Starts the daemon with these settings in addition to those of the harness.
pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Daemon {
    tokio::task::block_in_place(|| Daemon::start(directory, settings))
}

/// Returns the quantile `level` (0 to 1, nearest rank) of some times, in milliseconds with two decimals.
pub fn quantile_ms(times: &[Duration], level: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (level * sorted.len() as f64).ceil() as usize;
    (sorted[rank.clamp(1, sorted.len()) - 1] * 1e5).round() / 100.0
}
