//! A person beside a run: asked before what the capability refuses, told before the first side effect, and heard at each turn.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::action::Action;
use crate::error::Result;

/// An action that the capability refuses.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// The action.
    pub action: &'a Action,
    /// Why it is refused.
    pub reason: &'a str,
    /// The page it would be carried out on.
    pub url: &'a str,
    /// The page as a PNG, where the environment can draw one: a file relative to the store's directory.
    pub screenshot: Option<&'a str>,
}

/// A person's decision about a refused action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// That one action is carried out. Where a host was outside, the run may reach that host from now on, and nothing else.
    Approved,
    /// It is not; the outcome is a failed one with the person's note, and the run goes on.
    Denied(Option<String>),
    /// Nobody decides: the run ends as it does without an overseer.
    Undecided,
}

/// A person beside a run, or a program in their place.
#[async_trait]
pub trait Overseer: Send + Sync {
    /// Decides about a refused action; the time that it takes is not the run's.
    ///
    /// # Errors
    /// Ends the run.
    async fn rule(&self, refusal: Refusal<'_>) -> Result<Ruling>;

    /// Awaited before every action with a side effect; the action waits for it.
    ///
    /// # Errors
    /// Ends the run, and the action is not carried out.
    async fn acting(&self, _action: &Action) -> Result<()> {
        Ok(())
    }

    /// What was said to the agent since this was last called.
    fn messages(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A run's clock, which stands still while a person decides, and while the process or the machine does.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    /// Time spent waiting, and since when it is being spent.
    waited: Mutex<(Duration, Option<Instant>)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { began: Instant::now(), waited: Mutex::default() }
    }
}

impl Clock {
    /// Time that counts.
    fn elapsed(&self) -> Duration {
        let (waited, since) = *self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        self.began.elapsed().saturating_sub(waited + since.map(|at| at.elapsed()).unwrap_or_default())
    }

    /// Stands still while a future runs.
    pub(crate) async fn standing<T>(&self, future: impl Future<Output = T>) -> T {
        let since = Instant::now();
        self.waited.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(since);
        let done = future.await;
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        *waited = (waited.0 + since.elapsed(), None);
        done
    }

    /// Ends when so much time was spent.
    pub(crate) async fn spent(&self, limit: Duration) {
        loop {
            let (nap, asleep) = match limit.saturating_sub(self.elapsed()) {
                Duration::ZERO => return,
                // While it stands still, what is left does not shrink, and this looks again after as long.
                left => (left.clamp(Duration::from_millis(20), LOOK), Instant::now()),
            };
            tokio::time::sleep(nap).await;
            self.woke(nap, asleep.elapsed());
        }
    }

    /// Takes out what a nap took too long: a stopped process lives through no time of its own.
    fn woke(&self, nap: Duration, took: Duration) {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        if waited.1.is_none() && took > nap + LATE {
            waited.0 += took - nap;
        }
    }
}

/// The clock is looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// A busy machine wakes nobody later than this; whoever sleeps longer was stopped.
const LATE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_which_a_process_was_stopped_is_not_spent() {
        let ago = Duration::from_secs(100);
        let clock = Clock { began: Instant::now() - ago, ..Clock::default() };
        clock.woke(LOOK, LOOK + Duration::from_secs(2));
        assert!(clock.elapsed() >= ago, "it was woken late");
        clock.woke(LOOK, Duration::from_secs(91));
        assert!(clock.elapsed() >= Duration::from_secs(10) && clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
    }
}
