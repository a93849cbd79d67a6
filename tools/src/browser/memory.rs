//! A limit on a browser's memory: without it, a page can make the browser take all memory of the machine.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::process::{kill_browser, private_memory_mib};

/// The time between two measurements.
const INTERVAL: Duration = Duration::from_secs(2);

/// Measures a browser's memory at intervals and kills the browser when it holds more than its limit. Dropping this stops it.
#[derive(Debug)]
pub(super) struct MemoryWatchdog(JoinHandle<()>);

impl MemoryWatchdog {
    /// Starts to watch the browser of the driver with this process id, which is also the id of its session (see setsid(2)).
    pub(super) fn start(driver: u32, profile: &Path, limit_mib: u64) -> Self {
        let profile = profile.to_owned();
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Ok(held) = tokio::task::spawn_blocking(move || private_memory_mib(driver)).await else { return };
                if held > limit_mib {
                    tracing::warn!(held_mib = held, limit_mib, "the browser holds too much memory and is ended (`browser.memory_mib`)");
                    let profile = profile.clone();
                    let _ = tokio::task::spawn_blocking(move || kill_browser(&profile)).await;
                }
            }
        }))
    }
}

impl Drop for MemoryWatchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}
