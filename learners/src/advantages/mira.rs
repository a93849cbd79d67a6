//! The advantage of MiRA (2603.19685): a mixture of the one-step and the Monte-Carlo advantage.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The return that the Monte-Carlo half of the advantage uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonteCarlo {
    /// The episode's undiscounted total reward, which is its outcome unless other rewards are configured (WebRL, 2411.02337, section 2).
    #[default]
    Outcome,
    /// Discounted rewards.
    Rewards,
    /// Discounted rewards including their shaping.
    Shaped,
    /// No Monte-Carlo half, whatever the value of `lambda` ("no doubly robust mix" among MiRA's ablations: training collapses early).
    #[serde(rename = "none")]
    Off,
}

/// The constants of MiRA's advantage, which its paper does not give: the defaults are WebRL's (2411.02337, section 2 and table 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MiraConfig {
    /// Weight of the one-step half; without the other half training collapses early.
    pub lambda: f64,
    /// Discount factor.
    pub gamma: f64,
    /// The return that the Monte-Carlo half uses.
    pub monte_carlo: MonteCarlo,
}

impl Default for MiraConfig {
    fn default() -> Self {
        Self { lambda: 0.5, gamma: 0.9, monte_carlo: MonteCarlo::default() }
    }
}

/// One step of an episode with the critics' estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MiraStep {
    /// The environment's reward.
    pub reward: f64,
    /// The shaping that the potential critic adds to the reward: `alpha * (P' - P)`.
    pub shaping: f64,
    /// The value of the state before the step.
    pub value: f64,
    /// The value of the state after the step; 0 if the episode ended there.
    pub next_value: f64,
}

/// Computes `λ (r + shaping + γ V' - V) + (1 - λ) (G - V)` for one step, where `G` is its Monte-Carlo return (MiRA, 2603.19685,
/// doubly robust advantage).
pub fn mira_step(config: &MiraConfig, step: &MiraStep, monte_carlo: f64) -> f64 {
    let one_step = step.reward + step.shaping + config.gamma * step.next_value - step.value;
    let lambda = if config.monte_carlo == MonteCarlo::Off { 1.0 } else { config.lambda };
    lambda * one_step + (1.0 - lambda) * (monte_carlo - step.value)
}

/// Computes the advantage of every step of one episode with the given outcome (MiRA, 2603.19685, doubly robust advantage).
///
/// # Errors
/// There are no steps, a number is not finite, or a constant lies outside 0 to 1.
pub fn mira(config: &MiraConfig, steps: &[MiraStep], outcome: f64) -> Result<Vec<f64>> {
    check(config, steps, outcome)?;
    let mut monte_carlo = outcome;
    let mut following = 0.0;
    let mut advantages = vec![0.0; steps.len()];
    for (step, advantage) in steps.iter().zip(&mut advantages).rev() {
        let earned = match config.monte_carlo {
            MonteCarlo::Outcome | MonteCarlo::Off => None,
            MonteCarlo::Rewards => Some(step.reward),
            MonteCarlo::Shaped => Some(step.reward + step.shaping),
        };
        if let Some(earned) = earned {
            following = earned + config.gamma * following;
            monte_carlo = following;
        }
        *advantage = mira_step(config, step, monte_carlo);
    }
    Ok(advantages)
}

fn check(config: &MiraConfig, steps: &[MiraStep], outcome: f64) -> Result<()> {
    for (key, value) in [("lambda", config.lambda), ("gamma", config.gamma)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::Config { key, problem: format!("{value} does not lie between 0 and 1") });
        }
    }
    let finite = |s: &MiraStep| [s.reward, s.shaping, s.value, s.next_value].iter().all(|x| x.is_finite());
    let problem = if steps.is_empty() {
        "the episode has no steps".into()
    } else if !outcome.is_finite() {
        format!("its outcome is {outcome}")
    } else if let Some(t) = steps.iter().position(|step| !finite(step)) {
        format!("step {t} holds a number that is not finite")
    } else {
        return Ok(());
    };
    Err(Error::Batch { index: 0, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantages::tests::check_close;

    /// A step whose advantages are computed by hand.
    const STEP: MiraStep = MiraStep { reward: 0.0, shaping: 0.05, value: 0.4, next_value: 0.55 };

    fn config(gamma: f64, monte_carlo: MonteCarlo) -> MiraConfig {
        MiraConfig { gamma, monte_carlo, ..Default::default() }
    }

    #[test]
    fn advantages_of_one_step_mix_both_halves() {
        for (gamma, outcome, want) in [(1.0, 1.0, 0.40), (1.0, 0.0, -0.10), (0.9, 1.0, 0.3725), (0.9, 0.0, -0.1275)] {
            check_close(&mira(&config(gamma, MonteCarlo::Outcome), &[STEP], outcome).unwrap(), &[want], 1e-12);
        }
    }

    /// WebRL's advantage is MiRA's advantage without a discount and without shaping.
    #[test]
    fn webrl_is_a_special_case() {
        let step = |next_value| MiraStep { value: 0.5, next_value, ..Default::default() };
        let config = config(1.0, MonteCarlo::Outcome);
        check_close(&[mira_step(&config, &step(0.62), 1.0), mira_step(&config, &step(0.42), 0.0)], &[0.31, -0.29], 1e-12);
    }

    #[test]
    fn the_monte_carlo_half_uses_the_configured_return() {
        let steps = [MiraStep { shaping: 0.2, ..Default::default() }, MiraStep { reward: 1.0, shaping: 0.1, ..Default::default() }];
        let half = |monte_carlo| {
            let config = MiraConfig { lambda: 0.0, gamma: 0.5, monte_carlo };
            mira(&config, &steps, 3.0).unwrap()
        };
        check_close(&half(MonteCarlo::Outcome), &[3.0, 3.0], 1e-12);
        check_close(&half(MonteCarlo::Rewards), &[0.5, 1.0], 1e-12);
        check_close(&half(MonteCarlo::Shaped), &[0.75, 1.1], 1e-12);
    }

    #[test]
    fn bad_episodes_and_constants_are_refused() {
        assert!(mira(&MiraConfig::default(), &[], 1.0).is_err());
        assert!(mira(&MiraConfig::default(), &[STEP], f64::NAN).is_err());
        let broken = MiraStep { value: f64::INFINITY, ..STEP };
        assert!(mira(&MiraConfig::default(), &[STEP, broken], 1.0).unwrap_err().to_string().contains("step 1"));
        let greedy = MiraConfig { lambda: 1.5, ..Default::default() };
        assert!(mira(&greedy, &[STEP], 1.0).unwrap_err().to_string().contains("`lambda`"));
    }
}
