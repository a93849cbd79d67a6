//! How a trial is judged: by an exact test against what the gate measured, whose error is spent over the looks that the trial can take.

use milepost_learners::gate::{Breach, LiveBound, LiveConfig};
use milepost_learners::statistics::binomial_at_most;
use serde::{Deserialize, Serialize};

/// A trial waits for at most so many times the outcomes that were asked for.
const LONGEST: u64 = 5;

/// The bound that a generation has to hold on trial.
///
/// All outcomes of the trial count, after every `check_every` of them and at its end. Each look has the level `alpha / looks` (Bonferroni), so
/// that a generation as good as the bound is taken back with a probability of at most `alpha`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrialBound {
    validated: [u64; 2],
    rate: f64,
    alpha: f64,
    check_every: u64,
    until: u64,
}

impl TrialBound {
    /// The bound of a generation that solved so many of so many validation tasks, over `tasks` outcomes. Where not even that many failures
    /// would break it, the trial is as much longer as it takes, up to five times; where that does not suffice it is no longer at all.
    ///
    /// # Errors
    /// A configuration that cannot raise an alarm.
    pub(super) fn new(live: &LiveConfig, tasks: u64, validated: [u64; 2]) -> milepost_learners::Result<Self> {
        let rate = LiveBound::new(live.clone(), validated)?.bound();
        let over = |until| Self { validated, rate, alpha: live.alpha, check_every: live.check_every, until };
        let longest = if rate > 0.0 { tasks.saturating_mul(LONGEST) } else { tasks };
        let shortest = (tasks..=longest).map(over).find(|bound| bound.fails([0, bound.until]));
        Ok(shortest.unwrap_or_else(|| over(tasks)))
    }

    /// Outcomes at which the trial ends.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// With so few of [`Self::until`] solved it is taken back; `None` where even none would not show a fall.
    pub(super) fn fails_at(&self) -> Option<u64> {
        // Fewer than `low` solved fail, `high` and more do not.
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

    /// The look after an outcome, where there is one: `live` are the tasks solved, of how many.
    pub(super) fn look(&self, live: [u64; 2]) -> Option<Breach> {
        let due = live[1].is_multiple_of(self.check_every) || live[1] == self.until;
        if due { self.test(live) } else { None }
    }

    /// The look at the end of a trial, also of one that is over before its last outcome: it then takes the place of a later one.
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

    /// One-sided exact binomial p-value of so few successes at the bound.
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

    /// Probability that a generation that solves tasks at the bound's own rate is taken back, summed over all its ways.
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

    /// Expected values from an independent computation in Python (sums of binomial probabilities).
    #[test]
    fn a_trial_can_always_fail_or_says_that_it_cannot() {
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
    fn there_is_a_look_at_the_end_also_where_no_other_is() {
        let bound = bound([100, 100], 3, 5);
        assert_eq!((1..3).find_map(|of| bound.look([0, of])), None);
        let breach = bound.look([1, 3]).unwrap();
        assert!(breach.live == [1, 3] && breach.p < 0.05 && breach.reason.contains("100 of 100"), "{breach:?}");
        assert_eq!((bound.look([2, 3]), bound.test([0, 0])), (None, None));
    }

    #[test]
    fn a_trial_that_is_over_early_is_looked_at_once_more() {
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
