//! The live bound: detects that the success rate of the serving generation has fallen below its validated rate.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::statistics::{binomial_at_most, wilson};

/// The settings of a live bound. No paper gives these values; the defaults detect a total failure within 5 outcomes, and a fall from 90 to
/// 55 % within 100 outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveConfig {
    /// The probability of a false alarm over `checks` checks, after which the error budget starts again.
    pub alpha: f64,
    /// The number of checks over which the error is spent, in equal parts.
    pub checks: u64,
    /// The number of outcomes between two checks.
    pub check_every: u64,
    /// The number of latest outcomes that are tested.
    pub window: usize,
    /// The distance of the bound below the lower end of the validation's 95 % interval, because live tasks are not the validation tasks.
    pub margin: f64,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self { alpha: 0.05, checks: 20, check_every: 5, window: 40, margin: 0.0 }
    }
}

/// A live success rate that has fallen below the bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// The number of live tasks solved in the window, and the number of tasks in the window.
    pub live: [u64; 2],
    /// The success rate that the live rate is tested against.
    pub bound: f64,
    /// The one-sided exact binomial p-value of this few successes at the bound.
    pub p: f64,
    /// The reason, as a sentence with its numbers.
    pub reason: String,
}

/// Monitors the verified live outcomes of one generation; it can be serialized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveBound {
    config: LiveConfig,
    validated: [u64; 2],
    window: VecDeque<bool>,
    seen: u64,
}

impl LiveBound {
    /// Creates a bound for a generation whose validation gave `validated`: the number of tasks solved, and the number of tasks.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: LiveConfig, validated: [u64; 2]) -> Result<Self> {
        let refuse = |key, problem: &str| Err(Error::Config { key, problem: problem.into() });
        if !(config.alpha > 0.0 && config.alpha < 0.5) {
            return refuse("live.alpha", "must be above 0 and below 0.5; 0.05 is usual");
        }
        if config.checks == 0 || config.check_every == 0 || config.window == 0 {
            return refuse("live.checks", "checks, check_every and window must be at least 1");
        }
        if !(0.0..1.0).contains(&config.margin) {
            return refuse("live.margin", "must be from 0 to below 1");
        }
        Ok(Self { config, validated, window: VecDeque::new(), seen: 0 })
    }

    /// Returns the success rate below which a generation is taken out of service: the lower end of the validation's Wilson interval, minus
    /// the margin.
    pub fn bound(&self) -> f64 {
        (wilson(self.validated[0], self.validated[1])[0] - self.config.margin).max(0.0)
    }

    /// Adds a verified live outcome, and returns the breach if a check finds one.
    pub fn record(&mut self, solved: bool) -> Option<Breach> {
        if self.window.len() == self.config.window {
            self.window.pop_front();
        }
        self.window.push_back(solved);
        self.seen += 1;
        if self.seen.is_multiple_of(self.config.check_every) { self.check() } else { None }
    }

    fn check(&self) -> Option<Breach> {
        let live = [self.window.iter().filter(|solved| **solved).count() as u64, self.window.len() as u64];
        let (bound, level) = (self.bound(), self.config.alpha / self.config.checks as f64);
        let p = binomial_at_most(live[0], live[1], bound);
        (p <= level).then(|| Breach {
            live,
            bound,
            p,
            reason: format!(
                "live success {} of {} is below the bound of {bound:.3} that {} of {} validation tasks promise (p {p:.2e}, at most {level:.2e} allowed)",
                live[0], live[1], self.validated[0], self.validated[1]
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// Returns the number of outcomes of this success rate after which the alarm is raised, if that is at most `most`.
    fn alarm(config: &LiveConfig, rate: f64, most: u64, seed: u64) -> Option<u64> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut watch = LiveBound::new(config.clone(), [90, 100]).unwrap();
        (1..=most).find(|_| watch.record(rng.random_bool(rate)).is_some())
    }

    #[test]
    fn a_false_alarm_is_as_rare_as_configured() {
        let config = LiveConfig::default();
        let bound = LiveBound::new(config.clone(), [90, 100]).unwrap().bound();
        assert!((bound - wilson(90, 100)[0]).abs() < 1e-15);
        let horizon = config.checks * config.check_every;
        let alarms = (0..2000).filter(|seed| alarm(&config, bound, horizon, *seed).is_some()).count();
        assert!(alarms <= 130, "{alarms} of 2000 at the bound itself");
        let well = (0..2000).filter(|seed| alarm(&config, 0.9, horizon, *seed).is_some()).count();
        assert!(well <= 10, "{well} of 2000 at what was validated");
    }

    #[test]
    fn a_collapse_is_detected_at_the_first_check_and_a_decline_soon() {
        let config = LiveConfig::default();
        assert_eq!(alarm(&config, 0.0, 100, 1), Some(5));
        let within = (0..500).filter(|seed| alarm(&config, 0.55, 100, *seed).is_some()).count();
        assert!(within > 450, "{within} of 500");
    }

    /// Old outcomes leave the window, so that a collapse after many successes is detected within one window; the state survives
    /// serialization.
    #[test]
    fn earlier_successes_do_not_hide_a_collapse() {
        let mut watch = LiveBound::new(LiveConfig::default(), [90, 100]).unwrap();
        assert!((0..1000).all(|_| watch.record(true).is_none()));
        let mut watch: LiveBound = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        let breach = (0..20).find_map(|_| watch.record(false)).unwrap();
        assert!(breach.live[1] == 40 && breach.p < 0.0025 && breach.reason.contains("90 of 100"), "{}", breach.reason);
    }

    #[test]
    fn settings_that_cannot_alarm_are_refused() {
        for (config, key) in [
            (LiveConfig { alpha: 0.0, ..LiveConfig::default() }, "live.alpha"),
            (LiveConfig { window: 0, ..LiveConfig::default() }, "live.checks"),
            (LiveConfig { margin: f64::NAN, ..LiveConfig::default() }, "live.margin"),
        ] {
            assert!(LiveBound::new(config, [9, 10]).unwrap_err().to_string().contains(key));
        }
        // Without a validated success the bound is 0, which no outcome can break.
        let mut nothing = LiveBound::new(LiveConfig::default(), [0, 10]).unwrap();
        assert!((0..100).all(|_| nothing.record(false).is_none()));
    }
}
