//! Generalised advantage estimation (1506.02438), PPO's credit (1707.06347).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The constants of [`gae`]; the defaults are verl's, which RLTR (2508.19598, section 4.3) refers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaeConfig {
    /// Discount.
    pub gamma: f64,
    /// How far it looks: 0 trusts the critic after one step, 1 what was earned until the end.
    pub lambda: f64,
    /// Bring the batch's advantages to mean 0 and spread 1, weighed by trained tokens.
    pub whiten: bool,
}

impl Default for GaeConfig {
    fn default() -> Self {
        Self { gamma: 1.0, lambda: 1.0, whiten: true }
    }
}

/// `A_t = Σ_k (γ λ)^k (r_{t+k} + γ V_{t+k+1} - V_{t+k})` of one episode, `V` being 0 after its end (1506.02438, equation 16).
///
/// # Errors
/// No steps, lists of two lengths, numbers that are not finite, constants outside 0 to 1.
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
    fn it_goes_from_one_step_to_all_that_was_earned() {
        // r + γ V' - V alone, the return less the value, and by hand between: 0.2 + 0.45 (0.64 + 0.45 * 0.4).
        check(1.0, 0.0, &[0.2, 0.7, 0.4]);
        check(1.0, 1.0, &[1.3, 1.1, 0.4]);
        check(0.9, 0.5, &[0.16 + 0.45 * (0.64 + 0.45 * 0.4), 0.64 + 0.45 * 0.4, 0.4]);
    }

    #[test]
    fn what_does_not_line_up_is_refused() {
        let config = GaeConfig::default();
        for (rewards, values) in [(&[][..], &[][..]), (&[1.0][..], &[1.0, 2.0][..]), (&[f64::NAN][..], &[0.0][..])] {
            assert!(gae(&config, rewards, values).is_err());
        }
        assert!(gae(&GaeConfig { lambda: 1.5, ..config }, &[1.0], &[0.0]).is_err());
    }
}
