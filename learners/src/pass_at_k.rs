//! The chance that one of `k` tries succeeds.

use crate::{Error, Result};

/// `1 - C(n-c, k) / C(n, k)`: the unbiased estimate from `c` successes in `n` tries (Chen et al. 2021, 2107.03374, equation 1).
///
/// # Errors
/// No `k`, more than were tried, or more successes than tries.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Result<f64> {
    if k == 0 || k > n || c > n {
        return Err(Error::Config { key: "k", problem: format!("pass@{k} cannot be told from {c} successes in {n} tries") });
    }
    // The share of draws of k that hold no success, factor by factor; a factor of 0 stands for "there are too few failures".
    let none: f64 = (0..k).map(|i| (n - c).saturating_sub(i) as f64 / (n - i) as f64).product();
    Ok(1.0 - none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand.
    #[test]
    fn the_published_vector() {
        for (k, want) in [(1, 0.3750), (2, 0.6429), (4, 0.9286), (8, 1.0)] {
            assert!((pass_at_k(8, 3, k).unwrap() - want).abs() < 5e-5, "{k}");
        }
    }

    #[test]
    fn ends_and_nonsense() {
        assert_eq!((pass_at_k(5, 0, 5).unwrap(), pass_at_k(5, 5, 1).unwrap()), (0.0, 1.0));
        for (n, c, k) in [(5, 1, 0), (5, 1, 6), (5, 6, 1)] {
            assert!(pass_at_k(n, c, k).is_err(), "{n} {c} {k}");
        }
    }
}
