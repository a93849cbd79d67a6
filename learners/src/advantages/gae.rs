//! Generalised advantage estimation (1506.02438), the advantage that PPO uses (1707.06347).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The constants of [`gae`]; the defaults are those of verl, which RLTR (2508.19598, section 4.3) refers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaeConfig {
    /// Discount factor.
    pub gamma: f64,
    /// Trade-off between the critic and the rewards: 0 trusts the critic after one step, 1 sums the rewards to the end of the episode.
    pub lambda: f64,
    /// Whether the batch's advantages are normalised to mean 0 and standard deviation 1, weighted by trained tokens.
    pub whiten: bool,
}

impl Default for GaeConfig {
    fn default() -> Self {
        Self { gamma: 1.0, lambda: 1.0, whiten: true }
    }
}

/// Computes `A_t = Σ_k (γ λ)^k (r_{t+k} + γ V_{t+k+1} - V_{t+k})` for one episode, where `V` is 0 after its end (1506.02438, equation 16).
///
/// # Errors
/// There are no steps, the two lists differ in length, a number is not finite, or a constant lies outside 0 to 1.
pub fn gae(config: &GaeConfig, rewards: &[f64], values: &[f64]) -> Result<Vec<f64>> {
    for (key, value) in [("lambda", config.lambda), ("gamma", config.gamma)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::Config { key, problem: format!("{value} does not lie between 0 and 1") });
        }
    }
    if rewards.is_empty() || rewards.len() != values.len() || !rewards.iter().chain(values).all(|x| x.is_finite()) {
        let problem = format!("{} rewards and {} values, all finite, were expected to line up", rewards.len(), values.len());
        return Err(Error::Batch { index: 0, problem });
    }
    let mut advantages = vec![0.0; rewards.len()];
    let (mut following, mut next) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        following = rewards[t] + config.gamma * next - values[t] + config.gamma * config.lambda * following;
        next = values[t];
        advantages[t] = following;
    }
    Ok(advantages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantages::tests::check_close;

    fn check(gamma: f64, lambda: f64, want: &[f64]) {
        let config = GaeConfig { gamma, lambda, whiten: false };
        check_close(&gae(&config, &[0.0, 0.5, 1.0], &[0.2, 0.4, 0.6]).unwrap(), want, 1e-12);
    }

    #[test]
    fn lambda_goes_from_the_one_step_error_to_the_whole_return() {
        // λ = 0 gives r + γ V' - V, λ = 1 gives the return minus the value, and in between, by hand: 0.2 + 0.45 (0.64 + 0.45 * 0.4).
        check(1.0, 0.0, &[0.2, 0.7, 0.4]);
        check(1.0, 1.0, &[1.3, 1.1, 0.4]);
        check(0.9, 0.5, &[0.16 + 0.45 * (0.64 + 0.45 * 0.4), 0.64 + 0.45 * 0.4, 0.4]);
    }

    #[test]
    fn lists_of_different_lengths_and_invalid_numbers_are_refused() {
        let config = GaeConfig::default();
        for (rewards, values) in [(&[][..], &[][..]), (&[1.0][..], &[1.0, 2.0][..]), (&[f64::NAN][..], &[0.0][..])] {
            assert!(gae(&config, rewards, values).is_err());
        }
        assert!(gae(&GaeConfig { lambda: 1.5, ..config }, &[1.0], &[0.0]).is_err());
    }
}
