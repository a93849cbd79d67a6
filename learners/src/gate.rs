//! The gate: a candidate against the incumbent on the same validation tasks with the same seeds, looked at a fixed number of times.
//!
//! A gate promotes what is better, quarantines what is worse, and says "inconclusive" where neither could be shown by the last look.
//! Each of the two errors is spent over the looks, so that looking early costs nothing in honesty.

mod live;
mod record;
mod sequential;

use serde::{Deserialize, Serialize};

pub use live::{Breach, LiveBound, LiveConfig};
pub use sequential::Spending;

use crate::statistics::{paired_bootstrap, sign_test};
use crate::{Error, Result};
use sequential::SignWalk;

/// How paired outcomes are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Exact McNemar: which side did better on how many tasks; exact at any size.
    #[default]
    Mcnemar,
    /// Paired bootstrap of the mean difference, for graded outcomes; approximate for few tasks.
    Bootstrap,
}

/// A gate. No paper gives these values: the defaults find an improvement of 25 points nearly always, with 100 tasks at the most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// Probability of promoting a candidate that is no better, over all looks together.
    pub alpha: f64,
    /// Probability of quarantining a candidate that is no worse, over all looks together.
    pub worse_alpha: f64,
    /// Most looks.
    pub looks: usize,
    /// Tasks that each look adds.
    pub tasks_per_look: usize,
    /// Least improvement of the mean outcome (1 is solved) with which a candidate is promoted.
    pub min_improvement: f64,
    /// How outcomes are compared.
    pub test: Test,
    /// How much error may be spent by when.
    pub spending: Spending,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// Seed of the bootstrap.
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
    /// Most tasks.
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

/// Both sides' outcome on one task with one seed: 1 is solved, 0 is not, in between is partly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The candidate's.
    pub candidate: f64,
    /// The incumbent's.
    pub incumbent: f64,
}

impl Pair {
    /// Verified outcomes.
    pub fn solved(candidate: bool, incumbent: bool) -> Self {
        Self { candidate: f64::from(u8::from(candidate)), incumbent: f64::from(u8::from(incumbent)) }
    }
}

/// What a gate decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better: put it into service.
    Promote,
    /// Worse: keep it away.
    Quarantine,
    /// Neither could be shown; the incumbent stays.
    Inconclusive,
}

/// A verdict with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in a sentence with its numbers.
    pub reason: String,
    /// One-sided p-value: that the candidate is no better, or, for a quarantine, that it is no worse.
    pub p: f64,
    /// Tasks that the candidate solved, of how many.
    pub candidate: [u64; 2],
    /// Tasks that the incumbent solved, of how many.
    pub incumbent: [u64; 2],
    /// Looks taken.
    pub looks: usize,
}

/// What a look shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Nothing yet: play the tasks of the next look.
    Continue,
    /// The end.
    Decided(Decision),
}

/// A gate with what it has seen so far; it can be written down between looks and read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    config: GateConfig,
    looks: Vec<Vec<Pair>>,
    decision: Option<Decision>,
}

/// Whether one side's superiority is shown.
struct Shown {
    holds: bool,
    p: f64,
    /// What would have sufficed at this look.
    needed: String,
}

impl Gate {
    /// A gate that has seen nothing.
    ///
    /// # Errors
    /// A configuration that cannot decide anything.
    pub fn new(config: GateConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, looks: Vec::new(), decision: None })
    }

    /// The configuration.
    pub fn config(&self) -> &GateConfig {
        &self.config
    }

    /// Pairs seen so far, over all looks.
    pub fn seen(&self) -> usize {
        self.looks.iter().map(Vec::len).sum()
    }

    /// Takes one more look: `pairs` are the tasks played since the last (those whose outcome could be verified on both sides).
    /// After a decision nothing more is taken in, and the decision is given again.
    ///
    /// # Errors
    /// An outcome outside 0 to 1.
    pub fn look(&mut self, pairs: &[Pair]) -> Result<Look> {
        if let Some(decision) = &self.decision {
            return Ok(Look::Decided(decision.clone()));
        }
        if let Some(index) = pairs.iter().position(|pair| ![pair.candidate, pair.incumbent].iter().all(|value| (0.0..=1.0).contains(value)))
        {
            return Err(Error::Batch { index, problem: format!("{:?}: outcomes are from 0 (failed) to 1 (solved)", pairs[index]) });
        }
        self.looks.push(pairs.to_vec());
        self.decision = self.decide();
        Ok(self.decision.clone().map_or(Look::Continue, Look::Decided))
    }

    fn decide(&self) -> Option<Decision> {
        let better = self.shown(self.config.alpha, 1.0);
        if better.holds && self.improvement() >= self.config.min_improvement {
            return Some(self.decision(Verdict::Promote, better.p, "better", &better.needed));
        }
        let worse = self.shown(self.config.worse_alpha, -1.0);
        if worse.holds {
            return Some(self.decision(Verdict::Quarantine, worse.p, "worse", &worse.needed));
        }
        if self.looks.len() < self.config.looks {
            return None;
        }
        let needed = match better.holds {
            true => format!("better, but by less than the {} of gate.min_improvement", self.config.min_improvement),
            false => better.needed,
        };
        Some(self.decision(Verdict::Inconclusive, better.p, "neither better nor worse", &needed))
    }

    /// Tests whether the candidate is better (`sign` 1) or worse (-1), with this error over all looks.
    fn shown(&self, alpha: f64, sign: f64) -> Shown {
        match self.config.test {
            Test::Mcnemar => self.sign_test(alpha, sign),
            Test::Bootstrap => self.bootstrap(alpha, sign),
        }
    }

    fn sign_test(&self, alpha: f64, sign: f64) -> Shown {
        let (mut walk, mut bound, mut wins, mut losses) = (SignWalk::new(), 0, 0, 0);
        for (index, look) in self.looks.iter().enumerate() {
            let (won, lost) = counts(look, sign);
            wins += won;
            losses += lost;
            bound = walk.look(won + lost, self.config.spending.spent(alpha, self.share(index + 1)));
        }
        let needed = match bound > wins + losses {
            true => format!("{} differing tasks are too few", wins + losses),
            false => format!("{bound} of {} differing tasks needed", wins + losses),
        };
        Shown { holds: wins >= bound, p: sign_test(wins, losses), needed }
    }

    fn bootstrap(&self, alpha: f64, sign: f64) -> Shown {
        let differences: Vec<f64> = self.looks.iter().flatten().map(|pair| sign * (pair.candidate - pair.incumbent)).collect();
        let spent = |looks| self.config.spending.spent(alpha, self.share(looks));
        let level = spent(self.looks.len()) - spent(self.looks.len() - 1);
        let p = paired_bootstrap(&differences, self.config.resamples, self.config.seed.wrapping_add(self.looks.len() as u64)).p;
        Shown { holds: p <= level, p, needed: format!("p of at most {level:.4} needed") }
    }

    /// Share of the data that is in after so many looks; the last look is the end, however many tasks there were.
    fn share(&self, looks: usize) -> f64 {
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
        let (wins, losses) = self.looks.iter().map(|look| counts(look, 1.0)).fold((0, 0), |sum, look| (sum.0 + look.0, sum.1 + look.1));
        let reason = format!(
            "{found} at look {} of {}: {candidate} of {n} tasks against {incumbent} of {n}, {wins} done better and {losses} worse \
             (one-sided p {p:.2e}; {needed})",
            self.looks.len(),
            self.config.looks
        );
        Decision { verdict, reason, p, candidate: [candidate, n], incumbent: [incumbent, n], looks: self.looks.len() }
    }
}

/// Tasks on which the candidate did better and worse; the other way round for a sign of -1.
fn counts(pairs: &[Pair], sign: f64) -> (u64, u64) {
    let count = |sign: f64| pairs.iter().filter(|pair| sign * (pair.candidate - pair.incumbent) > 0.0).count() as u64;
    (count(sign), count(-sign))
}

#[cfg(test)]
mod tests;
