//! The bound of a trial: an exact test against the gate's figure, whose error probability is spent over the tests that the trial can take.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::gate::{Breach, LiveBound, LiveConfig};
use crate::statistics::binomial_at_most;

/// The maximum length of a trial, as a multiple of the configured number of outcomes.
const MAX_EXTENSION: u64 = 5;

/// The bound that a generation has to hold on trial.
///
/// All outcomes of the trial count. They are tested after every `check_every` of them and at the trial's end. Each test has the level
/// `alpha / tests` (Bonferroni), so that a generation as good as the bound is rolled back with a probability of at most `alpha`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrialBound {
    validated: [u64; 2],
    rate: f64,
    alpha: f64,
    check_every: u64,
    until: u64,
}

impl TrialBound {
    /// Computes the bound for a trial of `tasks` outcomes; `validated` is the number of validation tasks that the generation solved, and the number
    /// of validation tasks. If not even `tasks` failures would break the bound, the trial is extended to the length at which failures alone would, up
    /// to five times; if that does not suffice, it is not extended.
    ///
    /// # Errors
    /// The configuration cannot raise an alarm.
    pub(super) fn new(live: &LiveConfig, tasks: u64, validated: [u64; 2]) -> Result<Self> {
        let rate = LiveBound::new(live.clone(), validated)?.bound();
        let over = |until| Self { validated, rate, alpha: live.alpha, check_every: live.check_every, until };
        let longest = if rate > 0.0 { tasks.saturating_mul(MAX_EXTENSION) } else { tasks };
        let shortest = (tasks..=longest).map(over).find(|bound| bound.fails([0, bound.until]));
        Ok(shortest.unwrap_or_else(|| over(tasks)))
    }

    /// Returns the number of outcomes at which the trial ends.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// Returns the largest number of solved tasks, of [`Self::until`], with which the generation is rolled back; `None` if not even 0 would show a
    /// fall.
    pub(super) fn fails_at(&self) -> Option<u64> {
        // Fewer than `low` solved tasks fail the test; `high` and more pass it.
        let (mut low, mut high) = (0, self.until);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.fails([middle, self.until]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// Tests the outcomes if a test is due after the last of them; `live` is the number of solved tasks, and the number of tasks.
    pub(super) fn look(&self, live: [u64; 2]) -> Option<Breach> {
        let due = live[1].is_multiple_of(self.check_every) || live[1] == self.until;
        if due { self.test(live) } else { None }
    }

    /// Tests the outcomes at the end of a trial. In a trial that ends before its last outcome, this test replaces a later one.
    pub(super) fn test(&self, live: [u64; 2]) -> Option<Breach> {
        let (p, level, rate) = (self.p(live), self.level(), self.rate);
        self.fails(live).then(|| Breach {
            live,
            bound: rate,
            p,
            reason: format!(
                "on trial {} of {} is below the bound of {rate:.3} that {} of {} validation tasks promise (p {p:.2e}, at most {level:.2e} allowed)",
                live[0], live[1], self.validated[0], self.validated[1]
            ),
        })
    }

    fn fails(&self, live: [u64; 2]) -> bool {
        self.p(live) <= self.level()
    }

    /// Returns the one-sided exact binomial p-value of this many successes or fewer at the bound's rate.
    fn p(&self, live: [u64; 2]) -> f64 {
        binomial_at_most(live[0], live[1], self.rate)
    }

    fn level(&self) -> f64 {
        self.alpha / self.until.div_ceil(self.check_every) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(validated: [u64; 2], tasks: u64, check_every: u64) -> TrialBound {
        TrialBound::new(&LiveConfig { check_every, ..LiveConfig::default() }, tasks, validated).unwrap()
    }

    /// Computes the probability that a generation with the success rate of the bound is rolled back, summed over all sequences of outcomes.
    fn false_alarm(bound: &TrialBound) -> f64 {
        let (mut going, mut alarm) = (vec![1.0], 0.0);
        for of in 1..=bound.until {
            let mut next = vec![0.0; going.len() + 1];
            for (solved, p) in going.iter().enumerate() {
                next[solved] += p * (1.0 - bound.rate);
                next[solved + 1] += p * bound.rate;
            }
            for (_, p) in next.iter_mut().enumerate().filter(|(solved, _)| bound.look([*solved as u64, of]).is_some()) {
                alarm += std::mem::take(p);
            }
            going = next;
        }
        alarm
    }

    /// The expected values come from an independent computation in Python (sums of binomial probabilities).
    #[test]
    fn a_trial_can_fail_unless_its_validation_promised_too_little() {
        for (validated, tasks, check_every, until, fails_at, alarm) in [
            ([90, 100], 20, 5, 20, Some(11), 0.013_472_332_501),
            ([10, 25], 20, 5, 20, Some(0), 0.004_832_823_328),
            ([34, 100], 20, 5, 20, Some(0), 0.012_181_700_427),
            ([5, 25], 20, 5, 60, Some(0), 0.003_822_735_838),
            ([4, 25], 20, 5, 89, Some(0), 0.002_767_739_613),
            ([9, 10], 1, 5, 4, Some(0), 0.026_679_055_350),
            ([100, 100], 3, 5, 3, Some(1), 0.004_004_304_129),
            ([2, 25], 20, 5, 20, None, 0.0),
            ([0, 25], 20, 5, 20, None, 0.0),
        ] {
            let bound = bound(validated, tasks, check_every);
            assert_eq!((bound.until(), bound.fails_at()), (until, fails_at), "{validated:?}");
            let found = false_alarm(&bound);
            assert!(found <= 0.05 && (found - alarm).abs() < 1e-9, "{validated:?}: {found}");
        }
    }

    #[test]
    fn the_last_outcome_is_tested_even_if_no_other_is() {
        let bound = bound([100, 100], 3, 5);
        assert_eq!((1..3).find_map(|of| bound.look([0, of])), None);
        let breach = bound.look([1, 3]).unwrap();
        assert!(breach.live == [1, 3] && breach.p < 0.05 && breach.reason.contains("100 of 100"), "{breach:?}");
        assert_eq!((bound.look([2, 3]), bound.test([0, 0])), (None, None));
    }

    #[test]
    fn a_trial_that_ends_early_is_tested_at_its_end() {
        let bound = bound([90, 100], 20, 5);
        assert_eq!(bound.look([0, 4]), None, "not due");
        assert!(bound.test([0, 4]).is_some_and(|breach| breach.live == [0, 4]));
    }

    #[test]
    fn settings_that_cannot_alarm_are_refused() {
        let live = LiveConfig { alpha: 0.0, ..LiveConfig::default() };
        assert!(TrialBound::new(&live, 20, [9, 10]).unwrap_err().to_string().contains("live.alpha"));
    }
}
