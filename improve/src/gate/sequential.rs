//! Alpha spending over several looks, and the exact sign test that uses it.

use serde::{Deserialize, Serialize};

/// A spending function: maps the fraction of the data seen so far to the error probability that may be spent by then (Lan and DeMets 1983).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spending {
    /// `α ln(1 + (e - 1) t)`: spends about the same at every look, and stops early if the difference is clear (Lan and DeMets 1983, the
    /// Pocock-type function).
    #[default]
    Pocock,
    /// `α t³`: spends little at first and most at the end (Kim and DeMets 1987, the power family, whose cube is close to O'Brien and
    /// Fleming's).
    ObrienFleming,
}

impl Spending {
    /// Returns the error probability that may be spent when the fraction `seen` (0 to 1) of the data is available.
    pub fn spent(self, alpha: f64, seen: f64) -> f64 {
        let t = seen.clamp(0.0, 1.0);
        match self {
            Self::Pocock => alpha * (1.0 + (std::f64::consts::E - 1.0) * t).ln(),
            Self::ObrienFleming => alpha * t.powi(3),
        }
    }
}

/// The exact sign test at several looks. If both sides are equal and the number of differing pairs at each look is given, the number of
/// wins is a symmetric random walk, and the probability of having crossed an earlier bound is known exactly. Error probability that a look
/// leaves unspent, because the number of wins is discrete, is carried over to the next look.
#[derive(Clone, Debug)]
pub(super) struct SequentialSignTest {
    /// `[wins]`: the probability of this number of wins without having crossed a bound.
    continuing: Vec<f64>,
    /// The probability of having crossed a bound.
    spent: f64,
}

impl SequentialSignTest {
    /// Starts a test without any pairs.
    pub(super) fn new() -> Self {
        Self { continuing: vec![1.0], spent: 0.0 }
    }

    /// Adds `differing` pairs and returns the bound: the minimum number of wins, over all looks, that crosses it while the error spent in
    /// all stays within `budget`. The bound is larger than the number of pairs if no number of wins can cross it.
    pub(super) fn look(&mut self, differing: u64, budget: f64) -> u64 {
        for _ in 0..differing {
            self.continuing.push(0.0);
            for wins in (1..self.continuing.len()).rev() {
                self.continuing[wins] = 0.5 * (self.continuing[wins] + self.continuing[wins - 1]);
            }
            self.continuing[0] *= 0.5;
        }
        let mut bound = self.continuing.len();
        while bound > 0 && self.spent + self.continuing[bound - 1] <= budget {
            bound -= 1;
            self.spent += std::mem::take(&mut self.continuing[bound]);
        }
        bound as u64
    }

    /// Returns the probability of having crossed a bound so far if both sides are equal.
    #[cfg(test)]
    pub(super) fn spent(&self) -> f64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spending_ends_at_alpha_and_rises() {
        for spending in [Spending::Pocock, Spending::ObrienFleming] {
            let at: Vec<f64> = (0..=8).map(|i| spending.spent(0.05, f64::from(i) / 8.0)).collect();
            assert!(at[0] == 0.0 && (at[8] - 0.05).abs() < 1e-15 && at.windows(2).all(|pair| pair[0] < pair[1]), "{at:?}");
        }
        // Lan and DeMets 1983: the share ln(1 + (e - 1) / 2) = 0.62011 of the error is spent at half of the data.
        assert!((Spending::Pocock.spent(1.0, 0.5) - 0.620_115).abs() < 1e-6);
        assert!((Spending::ObrienFleming.spent(1.0, 0.5) - 0.125).abs() < 1e-15);
    }

    /// With one look the test is the plain sign test: of 10 pairs, 9 wins have p = 11/1024, and 8 wins have p = 56/1024.
    #[test]
    fn a_single_look_is_the_sign_test() {
        assert_eq!(SequentialSignTest::new().look(10, 0.05), 9);
        assert_eq!(SequentialSignTest::new().look(10, 56.0 / 1024.0), 8);
        assert_eq!(SequentialSignTest::new().look(4, 0.05), 5, "four pairs cannot suffice");
        assert_eq!(SequentialSignTest::new().look(0, 0.05), 1);
    }

    /// Compares with an enumeration of all walks of 12 steps, with looks after 5, 8 and 12 steps.
    #[test]
    fn the_error_of_several_looks_is_exact() {
        let (looks, budgets) = ([5_u64, 3, 4], [0.04, 0.1, 0.2]);
        let mut test = SequentialSignTest::new();
        let bounds: Vec<u64> = looks.iter().zip(budgets).map(|(differing, budget)| test.look(*differing, budget)).collect();
        let crosses = |path: u32| {
            let mut seen = 0;
            looks.iter().zip(&bounds).any(|(differing, bound)| {
                seen += differing;
                u64::from((path & ((1 << seen) - 1)).count_ones()) >= *bound
            })
        };
        let crossed = (0..1_u32 << 12).filter(|path| crosses(*path)).count() as f64 / 4096.0;
        assert!((crossed - test.spent()).abs() < 1e-12 && crossed <= 0.2 && crossed > 0.08, "{crossed} {}", test.spent());
    }
}
