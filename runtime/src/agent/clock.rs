//! The clock of a run: it is paused while a person decides, and while the process or the machine is stopped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest time between two looks at the clock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A busy machine wakes a sleeping task at most this late; a task that wakes later was stopped.
const MAX_WAKE_DELAY: Duration = Duration::from_secs(3);

/// A clock that counts the time of a run.
#[derive(Debug)]
pub(super) struct RunClock {
    started: Instant,
    pauses: Mutex<Pauses>,
}

/// The time that does not count.
#[derive(Debug, Default)]
struct Pauses {
    /// The length of all pauses that are over.
    total: Duration,
    /// When the pause began that the clock is in.
    since: Option<Instant>,
}

impl Default for RunClock {
    fn default() -> Self {
        Self { started: Instant::now(), pauses: Mutex::default() }
    }
}

impl RunClock {
    /// Returns the time that counts.
    fn elapsed(&self) -> Duration {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let paused = pauses.total + pauses.since.map(|since| since.elapsed()).unwrap_or_default();
        self.started.elapsed().saturating_sub(paused)
    }

    /// Awaits a future with the clock paused.
    pub async fn paused_during<T>(&self, future: impl Future<Output = T>) -> T {
        let since = Instant::now();
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).since = Some(since);
        let output = future.await;
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *pauses = Pauses { total: pauses.total + since.elapsed(), since: None };
        output
    }

    /// Completes when this much time has counted.
    pub async fn reached(&self, limit: Duration) {
        loop {
            let (sleep, before) = match limit.saturating_sub(self.elapsed()) {
                Duration::ZERO => return,
                // While the clock is paused, the remaining time does not shrink, and is looked at again after the same time.
                left => (left.clamp(Duration::from_millis(20), CHECK_INTERVAL), Instant::now()),
            };
            tokio::time::sleep(sleep).await;
            self.discount_oversleep(sleep, before.elapsed());
        }
    }

    /// Does not count the time that a sleep took too long: no time of the run passes in a process that is stopped.
    fn discount_oversleep(&self, sleep: Duration, took: Duration) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.since.is_none() && took > sleep + MAX_WAKE_DELAY {
            pauses.total += took - sleep;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_which_a_process_was_stopped_is_not_spent() {
        let ago = Duration::from_secs(100);
        let clock = RunClock { started: Instant::now() - ago, ..RunClock::default() };
        clock.discount_oversleep(CHECK_INTERVAL, CHECK_INTERVAL + Duration::from_secs(2));
        assert!(clock.elapsed() >= ago, "it was woken late");
        clock.discount_oversleep(CHECK_INTERVAL, Duration::from_secs(91));
        assert!(clock.elapsed() >= Duration::from_secs(10) && clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    }
}
