//! A bound on a browser's memory: what a page can take is the page's choice otherwise.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::process::{kill_browser, own_memory_mib};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// Ends a browser that holds more memory than its limit; stops when dropped.
#[derive(Debug)]
pub(super) struct MemoryWatch(JoinHandle<()>);

impl MemoryWatch {
    /// Watches the browser of the driver that leads this session.
    pub(super) fn start(driver: u32, profile: &Path, limit_mib: u64) -> Self {
        let profile = profile.to_owned();
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Ok(held) = tokio::task::spawn_blocking(move || own_memory_mib(driver)).await else { return };
                if held > limit_mib {
                    tracing::warn!(held_mib = held, limit_mib, "the browser holds too much memory and is ended (`browser.memory_mib`)");
                    let profile = profile.clone();
                    let _ = tokio::task::spawn_blocking(move || kill_browser(&profile)).await;
                }
            }
        }))
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
