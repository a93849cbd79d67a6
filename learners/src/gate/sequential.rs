//! Error that is spent over looks, and the exact test that spends it.

use serde::{Deserialize, Serialize};

/// How much of the error may be spent by when (Lan and DeMets 1983): a function from the share of the data seen to the error spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spending {
    /// `α ln(1 + (e - 1) t)`: about as much at every look (Lan and DeMets 1983, the form like Pocock's); stops early when it is clear.
    #[default]
    Pocock,
    /// `α t³`: little at first, most at the end (Kim and DeMets 1987, the power family, whose cube is close to O'Brien and Fleming's).
    ObrienFleming,
}

impl Spending {
    /// Error spent when a share `seen` (0 to 1) of the data is in.
    pub fn spent(self, alpha: f64, seen: f64) -> f64 {
        let t = seen.clamp(0.0, 1.0);
        match self {
            Self::Pocock => alpha * (1.0 + (std::f64::consts::E - 1.0) * t).ln(),
            Self::ObrienFleming => alpha * t.powi(3),
        }
    }
}

/// The sign test at several looks, exactly: given how many pairs differed by each look, the number of wins is a walk of fair steps, and
/// the mass that would have crossed an earlier bound is known. What discreteness leaves unspent goes over to the next look.
#[derive(Clone, Debug)]
pub(super) struct SignWalk {
    /// Probability of each number of wins together with not having crossed yet.
    going_on: Vec<f64>,
    spent: f64,
}

impl SignWalk {
    pub(super) fn new() -> Self {
        Self { going_on: vec![1.0], spent: 0.0 }
    }

    /// Adds pairs that differ and gives the fewest wins (of all looks together) that cross, where the error spent in all may be `budget`;
    /// more than there are pairs where nothing can cross.
    pub(super) fn look(&mut self, differing: u64, budget: f64) -> u64 {
        for _ in 0..differing {
            self.going_on.push(0.0);
            for wins in (1..self.going_on.len()).rev() {
                self.going_on[wins] = 0.5 * (self.going_on[wins] + self.going_on[wins - 1]);
            }
            self.going_on[0] *= 0.5;
        }
        let mut bound = self.going_on.len();
        while bound > 0 && self.spent + self.going_on[bound - 1] <= budget {
            bound -= 1;
            self.spent += std::mem::take(&mut self.going_on[bound]);
        }
        bound as u64
    }

    /// Probability of having crossed by now, were both sides equal.
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
        // Lan and DeMets 1983: ln(1 + (e - 1) / 2) = 0.62011 of the error at half of the data.
        assert!((Spending::Pocock.spent(1.0, 0.5) - 0.620_115).abs() < 1e-6);
        assert!((Spending::ObrienFleming.spent(1.0, 0.5) - 0.125).abs() < 1e-15);
    }

    /// One look is the plain sign test: with 10 pairs 9 wins have p = 11/1024, 8 have 56/1024.
    #[test]
    fn a_single_look_is_the_sign_test() {
        assert_eq!(SignWalk::new().look(10, 0.05), 9);
        assert_eq!(SignWalk::new().look(10, 56.0 / 1024.0), 8);
        assert_eq!(SignWalk::new().look(4, 0.05), 5, "four pairs cannot suffice");
        assert_eq!(SignWalk::new().look(0, 0.05), 1);
    }

    /// Against enumeration of all walks of 12 steps with looks after 5, 8 and 12.
    #[test]
    fn the_error_of_several_looks_is_exact() {
        let (looks, budgets) = ([5_u64, 3, 4], [0.04, 0.1, 0.2]);
        let mut walk = SignWalk::new();
        let bounds: Vec<u64> = looks.iter().zip(budgets).map(|(differing, budget)| walk.look(*differing, budget)).collect();
        let crosses = |path: u32| {
            let mut seen = 0;
            looks.iter().zip(&bounds).any(|(differing, bound)| {
                seen += differing;
                u64::from((path & ((1 << seen) - 1)).count_ones()) >= *bound
            })
        };
        let crossed = (0..1_u32 << 12).filter(|path| crosses(*path)).count() as f64 / 4096.0;
        assert!((crossed - walk.spent()).abs() < 1e-12 && crossed <= 0.2 && crossed > 0.08, "{crossed} {}", walk.spent());
    }
}
