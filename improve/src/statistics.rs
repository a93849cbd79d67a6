//! Confidence intervals, exact tests and resampling for paired outcomes, as pure functions.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// The share of the bootstrap distribution that lies outside its interval.
const OUTSIDE_INTERVAL: f64 = 0.05;

/// The 97.5 % quantile of the standard normal distribution, for two-sided intervals at 95 %.
const NORMAL_QUANTILE: f64 = 1.959_963_985;

/// Computes the Wilson score interval of a proportion at 95 %, which is robust for few episodes and for rates near 0 and 1.
pub fn wilson(solved: u64, episodes: u64) -> [f64; 2] {
    if episodes == 0 { [0.0, 1.0] } else { wilson_at(solved as f64 / episodes as f64, episodes as f64) }
}

/// Computes the Wilson score interval of a proportion from clusters of correlated episodes, each given as its number of successes and its
/// number of episodes, such as the training seeds of one policy on one task. The sample size is the number of independent episodes that
/// would have the variance between the clusters (effective sample size, Korn and Graubard 1998), at least the number of clusters and at
/// most that of episodes.
pub fn wilson_of_clusters(clusters: &[[u64; 2]]) -> [f64; 2] {
    let [solved, episodes] = clusters.iter().fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    let (count, n) = (clusters.len() as f64, episodes as f64);
    if episodes == 0 {
        return [0.0, 1.0];
    }
    let p = solved as f64 / n;
    let spread: f64 = clusters.iter().map(|[solved, of]| (*solved as f64 - p * *of as f64).powi(2)).sum();
    let variance = spread / (n * n) * count / (count - 1.0).max(1.0);
    let alone = p * (1.0 - p);
    let effective = if alone > 0.0 { alone / variance } else { count };
    wilson_at(p, effective.clamp(count, n))
}

/// Computes the Wilson score interval of the proportion `p` among `n` episodes, which need not be a whole number.
fn wilson_at(p: f64, n: f64) -> [f64; 2] {
    let z = NORMAL_QUANTILE;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// Sorts the values and returns their median; `None` if there are none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        n => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// Computes `P(X ≤ k)` of a binomial variable with `n` trials of probability `p`, which is clamped to 0…1.
pub fn binomial_at_most(k: u64, n: u64, p: f64) -> f64 {
    // A NaN is the only probability that is left to refuse.
    Binomial::new(p.clamp(0.0, 1.0), n).map_or(f64::NAN, |binomial| binomial.cdf(k))
}

/// Computes the one-sided exact sign test: the probability of at least `wins` wins among the pairs that differ, if both sides are equal.
pub fn sign_test(wins: u64, losses: u64) -> f64 {
    // By symmetry, the probability of at least `wins` wins equals that of at most `losses` wins.
    binomial_at_most(losses, wins + losses, 0.5)
}

/// Computes the two-sided exact McNemar test (McNemar 1947, in its binomial form): twice the smaller tail of [`sign_test`], at most 1.
pub fn mcnemar_exact(wins: u64, losses: u64) -> f64 {
    (2.0 * sign_test(wins.max(losses), wins.min(losses))).min(1.0)
}

/// Computes the two-sided exact sign-flip test (Fisher 1935): the probability of a sum at least as far from 0 if the sign of each
/// difference is random. If every difference is -1, 0 or 1, it equals [`mcnemar_exact`].
pub fn sign_flip_exact(differences: &[i64]) -> f64 {
    let reach: usize = differences.iter().map(|d| d.unsigned_abs() as usize).sum();
    // `mass[i]`: the probability of a sum of `i - reach`.
    let mut mass = vec![0.0; 2 * reach + 1];
    mass[reach] = 1.0;
    for size in differences.iter().map(|d| d.unsigned_abs() as usize).filter(|size| *size > 0) {
        let mut next = vec![0.0; mass.len()];
        for (i, p) in mass.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            next[i + size] += 0.5 * p;
            next[i - size] += 0.5 * p;
        }
        mass = next;
    }
    let far = differences.iter().sum::<i64>().unsigned_abs() as usize;
    mass.iter().enumerate().filter(|(i, _)| i.abs_diff(reach) >= far).map(|(_, p)| p).sum::<f64>().min(1.0)
}

/// The result of a paired bootstrap of the mean difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The mean difference.
    pub mean: f64,
    /// The lower end of the 95 % percentile interval.
    pub low: f64,
    /// The upper end of the 95 % percentile interval.
    pub high: f64,
    /// The one-sided p-value of the hypothesis that the mean is at most 0.
    pub p: f64,
}

/// Runs a paired bootstrap (Efron and Tibshirani 1993): a percentile interval (section 13.3), and a p-value from the distribution shifted
/// to a mean of 0 (section 16.4), with one added to both counts so that it is never 0. Without differences or resamples it returns a mean
/// of 0 and `p` = 1.
pub fn paired_bootstrap(differences: &[f64], resamples: usize, seed: u64) -> Bootstrap {
    if differences.is_empty() || resamples == 0 {
        return Bootstrap { mean: 0.0, low: 0.0, high: 0.0, p: 1.0 };
    }
    let n = differences.len();
    let mean = differences.iter().sum::<f64>() / n as f64;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut resample = || (0..n).map(|_| differences[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..resamples).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    // A tie counts against the difference; the tolerance keeps ties equal in spite of rounding.
    let as_large = means.iter().filter(|resampled| **resampled - mean >= mean - 1e-12).count();
    let at = |share: f64| means[((resamples - 1) as f64 * share).round() as usize];
    let p = (1 + as_large) as f64 / (1 + resamples) as f64;
    Bootstrap { mean, low: at(OUTSIDE_INTERVAL / 2.0), high: at(1.0 - OUTSIDE_INTERVAL / 2.0), p }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, table I: 81/263 and 0/20.
        let [low, high] = wilson(81, 263);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4);
        let [low, high] = wilson(0, 20);
        assert!(low.abs() < 1e-9 && (high - 0.1611).abs() < 1e-4);
    }

    #[test]
    fn correlated_episodes_of_a_cluster_count_less() {
        let singles: Vec<[u64; 2]> = (0..40).map(|task| [u64::from(task < 10), 1]).collect();
        assert_eq!(wilson_of_clusters(&singles), wilson(10, 40));
        // Three seeds that always agree count as one; three independent seeds count as three.
        let agreeing: Vec<[u64; 2]> = (0..40).map(|task| [if task < 10 { 3 } else { 0 }, 3]).collect();
        assert_eq!(wilson_of_clusters(&agreeing), wilson(10, 40));
        let apart: Vec<[u64; 2]> = (0..40).map(|task| [[0, 1, 1, 1][task % 4], 3]).collect();
        assert_eq!(wilson_of_clusters(&apart), wilson(30, 120));
        assert_eq!(wilson_of_clusters(&vec![[0, 3]; 20]), wilson(0, 20), "if all fail, the seeds give no information of their own");
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn the_sign_flip_test_is_exact() {
        for (wins, losses) in [(9usize, 1usize), (5, 0), (0, 5), (3, 3), (0, 0), (121, 59)] {
            let differences = [vec![1; wins], vec![-1; losses], vec![0; 7]].concat();
            let (got, want) = (sign_flip_exact(&differences), mcnemar_exact(wins as u64, losses as u64));
            assert!((got - want).abs() < 1e-12, "{wins} and {losses}: {got} is not {want}");
        }
        // By hand: only equal signs reach a sum of 4, and any signs reach 1.
        assert_eq!((sign_flip_exact(&[2, 1, 1]), sign_flip_exact(&[2, -1])), (0.25, 1.0));
        // Darwin's maize (Fisher 1935, section 21), in eighths of an inch: 1,726 of 32,768 sign patterns.
        let maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];
        assert!((sign_flip_exact(&maize) - 1726.0 / 32768.0).abs() < 1e-12, "{}", sign_flip_exact(&maize));
    }

    #[test]
    fn mcnemar_matches_published_values() {
        // The table [[101, 121], [59, 33]] of statsmodels' tests, checked there against R.
        assert!((mcnemar_exact(121, 59) - 4.434_449_263_755_51e-6).abs() < 1e-14, "{}", mcnemar_exact(121, 59));
        // By hand: 11 / 1024 for at least 9 of 10.
        for (wins, losses, one_sided, two_sided) in [
            (9, 1, 11.0 / 1024.0, 22.0 / 1024.0),
            (5, 0, 1.0 / 32.0, 1.0 / 16.0),
            (0, 5, 1.0, 1.0 / 16.0),
            (3, 3, 42.0 / 64.0, 1.0),
            (0, 0, 1.0, 1.0),
        ] {
            assert!((sign_test(wins, losses) - one_sided).abs() < 1e-12, "{wins} {losses}");
            assert!((mcnemar_exact(wins, losses) - two_sided).abs() < 1e-12, "{wins} {losses}");
        }
        assert!(sign_test(4000, 3000) < 1e-30 && sign_test(4000, 3000) > 0.0, "long runs neither underflow nor round to zero");
    }

    #[test]
    fn binomial_tails_match_direct_sums() {
        // 0.9^10, and 0.9^10 + 10 · 0.1 · 0.9^9.
        assert!((binomial_at_most(0, 10, 0.1) - 0.9_f64.powi(10)).abs() < 1e-12);
        assert!((binomial_at_most(1, 10, 0.1) - (0.9_f64.powi(10) + 0.9_f64.powi(9))).abs() < 1e-12);
        assert_eq!((binomial_at_most(3, 10, 0.0), binomial_at_most(3, 10, 1.0), binomial_at_most(10, 10, 0.5)), (1.0, 0.0, 1.0));
    }

    #[test]
    fn the_bootstrap_agrees_with_the_normal_approximation() {
        let differences: Vec<f64> = (0..400)
            .map(|i| {
                if i % 10 < 3 {
                    1.0
                } else if i % 10 == 3 {
                    -1.0
                } else {
                    0.0
                }
            })
            .collect();
        let found = paired_bootstrap(&differences, 4000, 1);
        // Mean 0.2, variance 0.4 - 0.04: a standard error of 0.03.
        let half = 1.96 * (0.36_f64 / 400.0).sqrt();
        assert!(
            (found.mean - 0.2).abs() < 1e-12 && (found.low - (0.2 - half)).abs() < 0.01 && (found.high - (0.2 + half)).abs() < 0.01,
            "{found:?}"
        );
        assert!(found.p < 1e-3 && paired_bootstrap(&differences.iter().map(|d| -d).collect::<Vec<_>>(), 4000, 1).p > 0.99);
        assert_eq!(found, paired_bootstrap(&differences, 4000, 1), "one seed, one answer");
        // Five wins among 50: the shifted mean is reached when 10 or more are drawn, a binomial tail.
        let few: Vec<f64> = (0..50).map(|i| if i < 5 { 1.0 } else { 0.0 }).collect();
        let p = paired_bootstrap(&few, 20_000, 2).p;
        assert!((p - (1.0 - binomial_at_most(9, 50, 0.1))).abs() < 0.004, "{p}");
    }
}
