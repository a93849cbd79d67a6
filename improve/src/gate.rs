//! The gate: a sequential test that compares a candidate with the incumbent on the same validation tasks with the same seeds.
//!
//! The data are analysed at a fixed number of interim looks. A gate promotes a candidate that is better, quarantines one that is worse, and
//! is inconclusive if neither could be shown by the last look. Each of the two error probabilities is spent over the looks (alpha
//! spending), so that early looks do not inflate it.

mod live;
mod record;
mod sequential;

use serde::{Deserialize, Serialize};

pub use live::{Breach, LiveBound, LiveConfig};
pub use sequential::Spending;

use crate::error::{Error, Result};
use crate::statistics::{paired_bootstrap, sign_test};
use sequential::SequentialSignTest;

/// How paired outcomes are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The exact McNemar test of the number of tasks on which each side did better; exact for any number of tasks.
    #[default]
    Mcnemar,
    /// A paired bootstrap of the mean difference, for graded outcomes; approximate for few tasks.
    Bootstrap,
}

/// The settings of a gate. No paper gives these values; the defaults nearly always detect an improvement of 25 percentage points, with at
/// most 100 tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// The probability of promoting a candidate that is no better, over all looks together.
    pub alpha: f64,
    /// The probability of quarantining a candidate that is no worse, over all looks together.
    pub worse_alpha: f64,
    /// The maximum number of looks.
    pub looks: usize,
    /// The number of tasks that each look adds.
    pub tasks_per_look: usize,
    /// The minimum improvement of the mean outcome (a solved task counts 1) for a promotion.
    pub min_improvement: f64,
    /// How outcomes are compared.
    pub test: Test,
    /// The spending function, which distributes the error probability over the looks.
    pub spending: Spending,
    /// The number of resamples of the bootstrap.
    pub resamples: usize,
    /// The seed of the bootstrap.
    pub seed: u64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            worse_alpha: 0.05,
            looks: 4,
            tasks_per_look: 25,
            min_improvement: 0.0,
            test: Test::Mcnemar,
            spending: Spending::Pocock,
            resamples: 10_000,
            seed: 0,
        }
    }
}

impl GateConfig {
    /// Returns the maximum number of tasks.
    pub fn max_tasks(&self) -> usize {
        self.looks * self.tasks_per_look
    }

    fn check(&self) -> Result<()> {
        let refuse = |key, problem: &str| Err(Error::Config { key, problem: problem.into() });
        let is_error = |alpha: f64| alpha > 0.0 && alpha < 0.5;
        if !is_error(self.alpha) {
            return refuse("gate.alpha", "must be above 0 and below 0.5; 0.05 is usual");
        }
        if !is_error(self.worse_alpha) {
            return refuse("gate.worse_alpha", "must be above 0 and below 0.5; 0.05 is usual");
        }
        if self.looks == 0 || self.tasks_per_look == 0 {
            return refuse("gate.looks", "a gate needs at least one look with at least one task");
        }
        if !self.min_improvement.is_finite() || !(0.0..1.0).contains(&self.min_improvement) {
            return refuse("gate.min_improvement", "must be from 0 to below 1");
        }
        if self.test == Test::Bootstrap && (self.resamples as f64) * self.alpha.min(self.worse_alpha) < 20.0 * self.looks as f64 {
            return refuse("gate.resamples", "are too few to resolve the error of one look; use 10000");
        }
        Ok(())
    }
}

/// The outcomes of both sides on one task with one seed: 1 for solved, 0 for failed, and values in between for partly solved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The candidate's outcome.
    pub candidate: f64,
    /// The incumbent's outcome.
    pub incumbent: f64,
}

impl Pair {
    /// Builds a pair of verified outcomes.
    pub fn solved(candidate: bool, incumbent: bool) -> Self {
        Self { candidate: f64::from(u8::from(candidate)), incumbent: f64::from(u8::from(incumbent)) }
    }
}

/// The verdict of a gate on a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is better, and is put into service.
    Promote,
    /// The candidate is worse, and is kept out of service.
    Quarantine,
    /// Neither could be shown; the incumbent stays in service.
    Inconclusive,
}

/// A verdict with the figures behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, as a sentence with its numbers.
    pub reason: String,
    /// The one-sided p-value of the hypothesis that the candidate is no better or, for a quarantine, that it is no worse.
    pub p: f64,
    /// The number of tasks that the candidate solved, and the number of tasks.
    pub candidate: [u64; 2],
    /// The number of tasks that the incumbent solved, and the number of tasks.
    pub incumbent: [u64; 2],
    /// The number of looks taken.
    pub looks: usize,
}

/// The result of a look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// There is no decision yet; the tasks of the next look must be played.
    Continue,
    /// The gate has decided.
    Decided(Decision),
}

/// A gate with the outcomes that it has seen so far; it can be serialized between looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    config: GateConfig,
    looks: Vec<Vec<Pair>>,
    decision: Option<Decision>,
}

/// The result of testing whether one side is better.
struct TestResult {
    significant: bool,
    p: f64,
    /// A description of the result that would be significant at this look.
    needed: String,
}

impl Gate {
    /// Creates a gate that has not seen any outcomes.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: GateConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, looks: Vec::new(), decision: None })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &GateConfig {
        &self.config
    }

    /// Returns the number of pairs seen so far, over all looks.
    pub fn seen(&self) -> usize {
        self.looks.iter().map(Vec::len).sum()
    }

    /// Takes one more look, with the pairs played since the last one (those whose outcome could be verified on both sides).
    /// After a decision the pairs are ignored, and the decision is returned again.
    ///
    /// # Errors
    /// An outcome lies outside 0 to 1.
    pub fn look(&mut self, pairs: &[Pair]) -> Result<Look> {
        if let Some(decision) = &self.decision {
            return Ok(Look::Decided(decision.clone()));
        }
        if let Some(index) = pairs.iter().position(|pair| ![pair.candidate, pair.incumbent].iter().all(|value| (0.0..=1.0).contains(value)))
        {
            return Err(Error::Item { index, problem: format!("{:?}: outcomes are from 0 (failed) to 1 (solved)", pairs[index]) });
        }
        self.looks.push(pairs.to_vec());
        self.decision = self.decide();
        Ok(self.decision.clone().map_or(Look::Continue, Look::Decided))
    }

    fn decide(&self) -> Option<Decision> {
        let better = self.test_superiority(self.config.alpha, 1.0);
        if better.significant && self.improvement() >= self.config.min_improvement {
            return Some(self.decision(Verdict::Promote, better.p, "better", &better.needed));
        }
        let worse = self.test_superiority(self.config.worse_alpha, -1.0);
        if worse.significant {
            return Some(self.decision(Verdict::Quarantine, worse.p, "worse", &worse.needed));
        }
        if self.looks.len() < self.config.looks {
            return None;
        }
        let needed = match better.significant {
            true => format!("better, but by less than the {} of gate.min_improvement", self.config.min_improvement),
            false => better.needed,
        };
        Some(self.decision(Verdict::Inconclusive, better.p, "neither better nor worse", &needed))
    }

    /// Tests whether the candidate is better (`sign` 1) or worse (`sign` -1), with the error probability `alpha` over all looks.
    fn test_superiority(&self, alpha: f64, sign: f64) -> TestResult {
        match self.config.test {
            Test::Mcnemar => self.sign_test(alpha, sign),
            Test::Bootstrap => self.bootstrap(alpha, sign),
        }
    }

    fn sign_test(&self, alpha: f64, sign: f64) -> TestResult {
        let (mut test, mut bound, mut wins, mut losses) = (SequentialSignTest::new(), 0, 0, 0);
        for (index, look) in self.looks.iter().enumerate() {
            let (won, lost) = wins_and_losses(look, sign);
            wins += won;
            losses += lost;
            bound = test.look(won + lost, self.config.spending.spent(alpha, self.information(index + 1)));
        }
        let needed = match bound > wins + losses {
            true => format!("{} differing tasks are too few", wins + losses),
            false => format!("{bound} of {} differing tasks needed", wins + losses),
        };
        TestResult { significant: wins >= bound, p: sign_test(wins, losses), needed }
    }

    fn bootstrap(&self, alpha: f64, sign: f64) -> TestResult {
        let differences: Vec<f64> = self.looks.iter().flatten().map(|pair| sign * (pair.candidate - pair.incumbent)).collect();
        let spent = |looks| self.config.spending.spent(alpha, self.information(looks));
        let level = spent(self.looks.len()) - spent(self.looks.len() - 1);
        let p = paired_bootstrap(&differences, self.config.resamples, self.config.seed.wrapping_add(self.looks.len() as u64)).p;
        TestResult { significant: p <= level, p, needed: format!("p of at most {level:.4} needed") }
    }

    /// Returns the fraction of the data that is available after `looks` looks (the information fraction); the last look counts as all of
    /// the data, whatever the number of tasks.
    fn information(&self, looks: usize) -> f64 {
        if looks >= self.config.looks {
            return 1.0;
        }
        let seen: usize = self.looks[..looks].iter().map(Vec::len).sum();
        (seen as f64 / self.config.max_tasks() as f64).min(1.0)
    }

    fn improvement(&self) -> f64 {
        let pairs = self.looks.iter().flatten();
        pairs.map(|pair| pair.candidate - pair.incumbent).sum::<f64>() / self.seen().max(1) as f64
    }

    fn decision(&self, verdict: Verdict, p: f64, found: &str, needed: &str) -> Decision {
        let n = self.seen() as u64;
        let solved = |side: fn(&Pair) -> f64| self.looks.iter().flatten().filter(|pair| side(pair) >= 1.0).count() as u64;
        let (candidate, incumbent) = (solved(|pair| pair.candidate), solved(|pair| pair.incumbent));
        let (wins, losses) =
            self.looks.iter().map(|look| wins_and_losses(look, 1.0)).fold((0, 0), |sum, look| (sum.0 + look.0, sum.1 + look.1));
        let reason = format!(
            "{found} at look {} of {}: {candidate} of {n} tasks against {incumbent} of {n}, {wins} done better and {losses} worse \
             (one-sided p {p:.2e}; {needed})",
            self.looks.len(),
            self.config.looks
        );
        Decision { verdict, reason, p, candidate: [candidate, n], incumbent: [incumbent, n], looks: self.looks.len() }
    }
}

/// Counts the tasks on which the candidate did better and those on which it did worse; with a `sign` of -1 the two counts are swapped.
fn wins_and_losses(pairs: &[Pair], sign: f64) -> (u64, u64) {
    let count = |sign: f64| pairs.iter().filter(|pair| sign * (pair.candidate - pair.incumbent) > 0.0).count() as u64;
    (count(sign), count(-sign))
}

#[cfg(test)]
mod tests;
