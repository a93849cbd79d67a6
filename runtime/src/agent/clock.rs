//! The clock of a run: it is paused while a person decides, and while the process or the machine is stopped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum time between two checks of the clock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum delay with which a busy machine wakes a sleeping task. A longer delay means that the process was stopped.
const MAX_WAKE_DELAY: Duration = Duration::from_secs(3);

/// A clock that measures the time of a run without its pauses.
#[derive(Debug)]
pub(super) struct RunClock {
    started: Instant,
    pauses: Mutex<Pauses>,
}

/// The pauses of the clock.
#[derive(Debug, Default)]
struct Pauses {
    /// The total length of the pauses that have ended.
    total: Duration,
    /// When the current pause began; `None` if the clock is running.
    since: Option<Instant>,
}

impl Default for RunClock {
    fn default() -> Self {
        Self { started: Instant::now(), pauses: Mutex::default() }
    }
}

impl RunClock {
    /// Returns the time since the start, without the pauses.
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

    /// Completes when the elapsed time, without the pauses, reaches `limit`.
    pub async fn reached(&self, limit: Duration) {
        loop {
            let (sleep, before) = match limit.saturating_sub(self.elapsed()) {
                Duration::ZERO => return,
                // While the clock is paused, the remaining time stays the same, so that it is checked at equal intervals.
                left => (left.clamp(Duration::from_millis(20), CHECK_INTERVAL), Instant::now()),
            };
            tokio::time::sleep(sleep).await;
            self.discount_oversleep(sleep, before.elapsed());
        }
    }

    /// Counts the time by which a sleep took too long as a pause, because the process was stopped in that time.
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
