//! pass@k: the probability that at least one of `k` attempts succeeds.

use crate::error::{Error, Result};

/// Computes `1 - C(n-c, k) / C(n, k)`, the unbiased estimate of pass@k from `c` successes in `n` attempts (Chen et al. 2021, 2107.03374,
/// equation 1).
///
/// # Errors
/// `k` is 0 or larger than `n`, or `c` is larger than `n`.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Result<f64> {
    if k == 0 || k > n || c > n {
        return Err(Error::Config { key: "k", problem: format!("pass@{k} cannot be told from {c} successes in {n} tries") });
    }
    // The probability that `k` attempts contain no success, factor by factor; a factor is 0 if there are fewer than `k` failures.
    let none: f64 = (0..k).map(|i| (n - c).saturating_sub(i) as f64 / (n - i) as f64).product();
    Ok(1.0 - none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values computed by hand.
    #[test]
    fn estimates_match_the_formula() {
        for (k, want) in [(1, 0.3750), (2, 0.6429), (4, 0.9286), (8, 1.0)] {
            assert!((pass_at_k(8, 3, k).unwrap() - want).abs() < 5e-5, "{k}");
        }
    }

    #[test]
    fn all_and_no_successes_are_exact_and_invalid_counts_are_refused() {
        assert_eq!((pass_at_k(5, 0, 5).unwrap(), pass_at_k(5, 5, 1).unwrap()), (0.0, 1.0));
        for (n, c, k) in [(5, 1, 0), (5, 1, 6), (5, 6, 1)] {
            assert!(pass_at_k(n, c, k).is_err(), "{n} {c} {k}");
        }
    }
}
