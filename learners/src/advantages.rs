//! Advantages: how much better an episode or a step went than expected.
//!
//! Potential-based shaping adds `-Φ(s_0)` to the return of every episode of a group, so every estimator that subtracts the
//! group's mean cancels it: shaping has an effect only through [`gigpo`], which compares states, or through [`mira`] (Ng et al. 1999).

mod gae;
mod gigpo;
mod mira;
mod shaping;
mod tree;

use serde::{Deserialize, Serialize};

pub use gae::{GaeConfig, gae};
pub use gigpo::{Gigpo, GigpoConfig, Step, gigpo};
pub use mira::{MiraConfig, MiraStep, MonteCarlo, mira, mira_step};
pub use shaping::{ShapingConfig, ShapingForm, mira_steps, shaping};
pub use tree::{Branch, tree};

use crate::{Error, Result};

/// Constant added to the variance of a whitened batch (verl 0.9.1, `masked_whiten`).
const WHITEN_EPS: f64 = 1e-8;

/// The episode-level estimator to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The reward minus the group's mean, divided by the group's standard deviation ([`grpo`]).
    #[default]
    Grpo,
    /// The reward minus the group's mean ([`dr_grpo`]).
    DrGrpo,
    /// The reward minus the mean of the group's other rewards ([`rloo`]).
    Rloo,
    /// The reward, whitened over the whole batch ([`reinforce_plus_plus`]).
    ReinforcePlusPlus,
    /// The reward minus the group's mean, whitened over the whole batch ([`reinforce_plus_plus_baseline`]).
    ReinforcePlusPlusBaseline,
}

impl Estimator {
    /// Returns true if an episode is compared only with its own group, so that a group with equal rewards carries no signal.
    pub fn within_groups(self) -> bool {
        self != Self::ReinforcePlusPlus
    }
}

/// How episode-level advantages are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageConfig {
    /// The estimator.
    pub estimator: Estimator,
    /// Added to a group's standard deviation; verl uses 1e-6, TRL 1e-4.
    pub eps: f64,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        Self { estimator: Estimator::default(), eps: 1e-6 }
    }
}

/// The episodes of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The reward of every episode.
    pub rewards: Vec<f64>,
    /// The number of trained tokens of every episode; only REINFORCE++ weights by them.
    pub tokens: Vec<usize>,
}

/// Computes one advantage for every episode of every group; all tokens of an episode share it.
///
/// # Errors
/// A group is empty, a reward is not finite, `eps` is out of range, or REINFORCE++ gets fewer than two trained tokens.
pub fn advantages(config: &AdvantageConfig, groups: &[Group]) -> Result<Vec<Vec<f64>>> {
    let each = |estimate: &dyn Fn(&[f64]) -> Result<Vec<f64>>| groups.iter().map(|group| estimate(&group.rewards)).collect();
    match config.estimator {
        Estimator::Grpo => each(&|rewards| grpo(rewards, config.eps)),
        Estimator::DrGrpo => each(&dr_grpo),
        Estimator::Rloo => each(&rloo),
        Estimator::ReinforcePlusPlus => reinforce_plus_plus(groups),
        Estimator::ReinforcePlusPlusBaseline => reinforce_plus_plus_baseline(groups),
    }
}

/// Computes `(r - mean) / (std + eps)` with the sample standard deviation; 0 for equal rewards and single episodes (GRPO, 2402.03300,
/// section 4.1.2).
pub fn grpo(rewards: &[f64], eps: f64) -> Result<Vec<f64>> {
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(Error::Config { key: "eps", problem: format!("{eps} is not a small number of at least 0, such as 1e-6") });
    }
    let centred = dr_grpo(rewards)?;
    if all_equal(rewards) {
        return Ok(centred);
    }
    let variance = centred.iter().map(|c| c * c).sum::<f64>() / (rewards.len() - 1) as f64;
    let scale = variance.sqrt() + eps;
    Ok(centred.iter().map(|c| c / scale).collect())
}

/// Computes `r - mean`; 0 for single episodes (Dr. GRPO, 2503.20783, section 3.2).
pub fn dr_grpo(rewards: &[f64]) -> Result<Vec<f64>> {
    check(rewards)?;
    if all_equal(rewards) {
        return Ok(vec![0.0; rewards.len()]);
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    Ok(rewards.iter().map(|r| r - mean).collect())
}

/// Computes `r_i` minus the mean of the other episodes' rewards; 0 for single episodes (RLOO, 2402.14740; in the form of verl and TRL).
pub fn rloo(rewards: &[f64]) -> Result<Vec<f64>> {
    let n = rewards.len() as f64;
    let centred = dr_grpo(rewards)?;
    Ok(centred.iter().map(|c| if *c == 0.0 { 0.0 } else { c * n / (n - 1.0) }).collect())
}

/// Whitens `r` over all trained tokens of the batch, ignoring groups (REINFORCE++, 2501.03262, without discount and KL).
pub fn reinforce_plus_plus(groups: &[Group]) -> Result<Vec<Vec<f64>>> {
    groups.iter().try_for_each(|group| check(&group.rewards))?;
    whiten_batch(groups, groups.iter().map(|group| group.rewards.clone()).collect())
}

/// Whitens `r - mean` of each group over all trained tokens of the batch (REINFORCE++ with baseline, 2501.03262; whitened as in verl).
pub fn reinforce_plus_plus_baseline(groups: &[Group]) -> Result<Vec<Vec<f64>>> {
    whiten_batch(groups, groups.iter().map(|group| dr_grpo(&group.rewards)).collect::<Result<_>>()?)
}

/// Whitens one value per episode over all trained tokens of the batch.
fn whiten_batch(groups: &[Group], mut values: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>> {
    if let Some(index) = groups.iter().position(|group| group.rewards.len() != group.tokens.len()) {
        let Group { rewards, tokens } = &groups[index];
        return Err(Error::Batch { index, problem: format!("its group has {} rewards and {} token counts", rewards.len(), tokens.len()) });
    }
    let tokens: Vec<f64> = groups.iter().flat_map(|group| &group.tokens).map(|n| *n as f64).collect();
    let mut all: Vec<f64> = values.iter().flatten().copied().collect();
    whiten(&mut all, &tokens)?;
    for (value, whitened) in values.iter_mut().flatten().zip(all) {
        *value = whitened;
    }
    Ok(values)
}

/// Normalises values to mean 0 and standard deviation 1, where value `i` counts `tokens[i]` times (verl 0.9.1, `masked_whiten`).
///
/// # Errors
/// There are fewer than two tokens in all.
pub fn whiten(values: &mut [f64], tokens: &[f64]) -> Result<()> {
    let total: f64 = tokens.iter().sum();
    if total < 2.0 {
        return Err(Error::Batch { index: 0, problem: "a batch is whitened over at least two trained tokens".into() });
    }
    let sum = |f: &dyn Fn(f64) -> f64| values.iter().zip(tokens).map(|(v, n)| n * f(*v)).sum::<f64>();
    let mean = sum(&|v| v) / total;
    let scale = 1.0 / (sum(&|v| (v - mean).powi(2)) / (total - 1.0) + WHITEN_EPS).sqrt();
    values.iter_mut().for_each(|value| *value = (*value - mean) * scale);
    Ok(())
}

/// Returns true if all rewards are equal, so that the group does not tell which episode was better.
pub fn all_equal(rewards: &[f64]) -> bool {
    rewards.iter().all(|r| *r == rewards[0])
}

fn check(rewards: &[f64]) -> Result<()> {
    if rewards.is_empty() {
        return Err(Error::Batch { index: 0, problem: "its group is empty".into() });
    }
    match rewards.iter().position(|r| !r.is_finite()) {
        Some(index) => Err(Error::Batch { index, problem: format!("its reward is {}, and a failed judge is no reward", rewards[index]) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::{Preset, RewardConfig, Shaping, compose, per_step};
    use milepost_runtime::Verdicts;

    /// The rewards of a group whose advantages are computed by hand.
    const GROUP: [f64; 8] = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];

    /// Compares two lists number by number.
    pub fn check_close(got: &[f64], want: &[f64], tolerance: f64) {
        assert_eq!(got.len(), want.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= tolerance, "number {i} is {g}, not {w}: {got:?}");
        }
    }

    fn group(rewards: &[f64], tokens: &[usize]) -> Group {
        Group { rewards: rewards.to_vec(), tokens: tokens.to_vec() }
    }

    #[test]
    fn grpo_divides_by_the_deviation_of_the_sample() {
        let got = grpo(&GROUP, 1e-6).unwrap();
        check_close(&got, &GROUP.map(|r| if r == 1.0 { 1.2076 } else { -0.7246 }), 5e-5);
        check_close(&got, &GROUP.map(|r| if r == 1.0 { 1.207_614_7 } else { -0.724_568_8 }), 3e-6);
    }

    #[test]
    fn a_group_of_equal_rewards_has_an_advantage_of_exactly_zero() {
        let third = 1.0 / 3.0;
        for rewards in [&[0.1; 7][..], &[third; 3], &[1.0], &[-3.0, -3.0]] {
            for estimator in [Estimator::Grpo, Estimator::DrGrpo, Estimator::Rloo, Estimator::ReinforcePlusPlusBaseline] {
                let config = AdvantageConfig { estimator, eps: 0.0 };
                let got = advantages(&config, &[group(rewards, &vec![5; rewards.len()])]).unwrap();
                assert_eq!(got, [vec![0.0; rewards.len()]], "{estimator:?}");
            }
        }
    }

    #[test]
    fn rloo_leaves_one_out() {
        let rewards = [0.5, -1.0, 2.0, 0.25];
        let sum: f64 = rewards.iter().sum();
        check_close(&rloo(&rewards).unwrap(), &rewards.map(|r| r - (sum - r) / 3.0), 1e-12);
        check_close(&dr_grpo(&rewards).unwrap(), &rewards.map(|r| r - sum / 4.0), 1e-12);
    }

    #[test]
    fn whitening_is_over_tokens_and_not_over_episodes() {
        let groups = [group(&[1.0, 0.0], &[3, 1]), group(&[2.0, 2.0, 5.0], &[2, 4, 6])];
        let got = reinforce_plus_plus_baseline(&groups).unwrap();
        let tokens: Vec<f64> = [3, 1, 2, 4, 6].iter().zip(got.iter().flatten()).flat_map(|(n, a)| vec![*a; *n]).collect();
        let variance = tokens.iter().map(|a| a * a).sum::<f64>() / (tokens.len() - 1) as f64;
        check_close(&[tokens.iter().sum(), variance], &[0.0, 1.0], 1e-7);
    }

    #[test]
    fn without_a_baseline_a_group_of_equal_rewards_still_has_advantages() {
        let groups = [group(&[1.0, 1.0], &[2, 2]), group(&[0.0, 0.0], &[2, 2])];
        let got = reinforce_plus_plus(&groups).unwrap();
        assert!(got[0][0] > 0.5 && (got[0][0] + got[1][1]).abs() < 1e-9, "{got:?}");
        assert_eq!(reinforce_plus_plus_baseline(&groups).unwrap(), [vec![0.0; 2], vec![0.0; 2]]);
        assert!(reinforce_plus_plus(&[group(&[f64::NAN, 1.0], &[1, 1])]).is_err());
    }

    /// The shaping of an episode sums to `-Φ(s_0)`, which its whole group shares: comparing episodes cancels it, comparing states does not.
    #[test]
    fn potential_based_shaping_cancels_in_a_group_and_not_between_states() {
        let potentials: [&[f64]; 3] = [&[0.2, 0.5, 0.9], &[0.2, 0.1], &[0.2, 0.4, 0.3, 0.6]];
        let outcomes = [true, false, false];
        let composed = |potential: f64| {
            let config = RewardConfig { potential, shaping: Shaping::Invariant { gamma: 1.0 }, ..Preset::Outcome.config() };
            let one = |(phi, solved): (&[f64], bool)| {
                let verdicts = Verdicts { potential: Some(phi.to_vec()), ..Verdicts::default() };
                let episode = crate::rewards::tests::episode_of(phi.len() - 1, solved);
                per_step(&compose(&episode, &verdicts, &config).terms, phi.len() - 1)
            };
            potentials.into_iter().zip(outcomes).map(one).collect::<Vec<_>>()
        };
        let totals =
            |potential| composed(potential).into_iter().map(|(steps, whole)| steps.iter().sum::<f64>() + whole).collect::<Vec<_>>();
        let (plain, shaped) = (totals(0.0), totals(0.3));
        check_close(&shaped, &plain.iter().map(|r| r - 0.3 * 0.2).collect::<Vec<_>>(), 1e-12);
        check_close(&grpo(&shaped, 1e-6).unwrap(), &grpo(&plain, 1e-6).unwrap(), 1e-12);
        check_close(&rloo(&shaped).unwrap(), &rloo(&plain).unwrap(), 1e-12);
        // All three episodes begin in the same state, so GiGPO compares what their first steps led to.
        let steps = |potential| -> Vec<Vec<Step>> {
            let anchored = |(steps, _): (Vec<f64>, f64)| {
                let step =
                    |(t, reward): (usize, f64)| Step { anchor: if t == 0 { "first".into() } else { format!("{t} {reward}") }, reward };
                steps.into_iter().enumerate().map(step).collect()
            };
            composed(potential).into_iter().map(anchored).collect()
        };
        let by_step = |potential| gigpo(&GigpoConfig { gamma: 0.5, ..GigpoConfig::default() }, &steps(potential)).unwrap().advantages;
        let differs = by_step(0.3)[1][0] - by_step(0.3)[2][0];
        assert!(differs < -1e-3 && (by_step(0.0)[1][0] - by_step(0.0)[2][0]).abs() < 1e-12, "{differs}");
    }

    #[test]
    fn empty_groups_and_invalid_numbers_are_refused() {
        assert!(grpo(&[], 1e-6).unwrap_err().to_string().contains("empty"));
        assert!(rloo(&[1.0, f64::NAN]).unwrap_err().to_string().starts_with("sequence 1 "));
        assert!(grpo(&[1.0, 2.0], -1.0).unwrap_err().to_string().contains("`eps`"));
        let problem = reinforce_plus_plus_baseline(&[group(&[1.0, 0.0], &[3])]).unwrap_err().to_string();
        assert!(problem.contains("2 rewards and 1 token counts"), "{problem}");
        assert!(reinforce_plus_plus_baseline(&[group(&[1.0, 0.0], &[1, 0])]).is_err());
    }

    #[test]
    fn configuration_is_strict() {
        let config: AdvantageConfig = serde_json::from_str(r#"{"estimator": "reinforce_plus_plus_baseline"}"#).unwrap();
        assert_eq!(config, AdvantageConfig { estimator: Estimator::ReinforcePlusPlusBaseline, ..Default::default() });
        assert!(serde_json::from_str::<AdvantageConfig>(r#"{"epsilon": 1}"#).is_err());
    }
}
