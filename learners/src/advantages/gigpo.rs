//! GiGPO (2505.10978): compares an episode with its group, and a step with steps from the same state.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{dr_grpo, grpo};
use crate::{Error, Result};

/// How step-level advantages are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GigpoConfig {
    /// Discount factor of the rewards that follow a step; verl-agent's scripts use 0.95.
    pub gamma: f64,
    /// Weight of the step-level advantage; the episode-level advantage has weight 1.
    pub step_weight: f64,
    /// Whether both levels are divided by their standard deviation.
    pub scale: bool,
    /// Added to that standard deviation.
    pub eps: f64,
}

impl Default for GigpoConfig {
    fn default() -> Self {
        Self { gamma: 0.95, step_weight: 1.0, scale: false, eps: 1e-6 }
    }
}

/// One step of an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// A key of the state in which the step was taken; steps with equal keys are compared. Volatile parts of the state are left out of it,
    /// because raw page text almost never repeats.
    pub anchor: String,
    /// The reward of the step.
    pub reward: f64,
}

/// The advantages of one task's group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gigpo {
    /// `[episode][step]`; all tokens of a step share it.
    pub advantages: Vec<Vec<f64>>,
    /// The number of clusters of equal anchors by cluster size; only clusters larger than 1 give a step-level signal.
    pub cluster_sizes: BTreeMap<usize, usize>,
}

/// Computes `A_E + step_weight * A_S` for every step of one task's episodes (GiGPO, 2505.10978, equations 3 and 5 to 8).
///
/// `A_E` compares an episode's summed reward with the other episodes of the group; `A_S` compares a step's discounted return with the
/// other steps that have the same anchor, and is 0 for a step whose anchor occurs once.
///
/// # Errors
/// The group or an episode is empty, or a reward is not finite.
pub fn gigpo(config: &GigpoConfig, episodes: &[Vec<Step>]) -> Result<Gigpo> {
    if let Some(index) = episodes.iter().position(Vec::is_empty) {
        return Err(Error::Batch { index, problem: "the episode has no steps".into() });
    }
    let relative = |values: &[f64]| if config.scale { grpo(values, config.eps) } else { dr_grpo(values) };
    let totals: Vec<f64> = episodes.iter().map(|steps| steps.iter().map(|step| step.reward).sum()).collect();
    let mut advantages: Vec<Vec<f64>> =
        relative(&totals)?.iter().zip(episodes).map(|(advantage, steps)| vec![*advantage; steps.len()]).collect();
    let returns: Vec<Vec<f64>> = episodes.iter().map(|steps| returns_to_go(steps, config.gamma)).collect();
    let mut cluster_sizes = BTreeMap::new();
    for members in clusters(episodes) {
        *cluster_sizes.entry(members.len()).or_default() += 1;
        let values: Vec<f64> = members.iter().map(|(i, t)| returns[*i][*t]).collect();
        for ((i, t), advantage) in members.into_iter().zip(relative(&values)?) {
            advantages[i][t] += config.step_weight * advantage;
        }
    }
    Ok(Gigpo { advantages, cluster_sizes })
}

/// Computes the discounted return `Σ_{k≥t} γ^{k-t} r_k` of every step.
fn returns_to_go(steps: &[Step], gamma: f64) -> Vec<f64> {
    let mut returns = vec![0.0; steps.len()];
    let mut following = 0.0;
    for (step, value) in steps.iter().zip(&mut returns).rev() {
        following = step.reward + gamma * following;
        *value = following;
    }
    returns
}

/// Groups the `(episode, step)` pairs by anchor, in the order in which the anchors first occur.
fn clusters(episodes: &[Vec<Step>]) -> Vec<Vec<(usize, usize)>> {
    let mut clusters: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (i, steps) in episodes.iter().enumerate() {
        for (t, step) in steps.iter().enumerate() {
            let at = *known.entry(&step.anchor).or_insert(clusters.len());
            if at == clusters.len() {
                clusters.push(Vec::new());
            }
            clusters[at].push((i, t));
        }
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advantages::tests::check_close;

    fn episode(steps: &[(&str, f64)]) -> Vec<Step> {
        steps.iter().map(|(anchor, reward)| Step { anchor: (*anchor).into(), reward: *reward }).collect()
    }

    /// Returns two episodes that begin at `home`: the first succeeds by way of `list`, the second fails.
    fn two() -> [Vec<Step>; 2] {
        [episode(&[("home", 0.0), ("list", 0.0), ("item", 1.0)]), episode(&[("home", 0.0), ("help", 0.0)])]
    }

    #[test]
    fn a_step_is_compared_with_steps_from_the_same_state() {
        let config = GigpoConfig { gamma: 0.5, step_weight: 2.0, ..Default::default() };
        let got = gigpo(&config, &two()).unwrap();
        // A_E = ±1/2; the returns from `home` are 1/4 and 0, so A_S = ±1/8 there, and 0 for anchors that occur once.
        check_close(&got.advantages[0], &[0.75, 0.5, 0.5], 1e-12);
        check_close(&got.advantages[1], &[-0.75, -0.5], 1e-12);
        assert_eq!(got.cluster_sizes, BTreeMap::from([(1, 3), (2, 1)]));
    }

    #[test]
    fn within_one_episode_a_repeated_state_is_compared_with_itself() {
        let config = GigpoConfig { gamma: 0.5, ..Default::default() };
        let alone = [episode(&[("home", 0.0), ("home", 0.0), ("item", 1.0)])];
        let got = gigpo(&config, &alone).unwrap().advantages;
        check_close(&got[0], &[-0.125, 0.125, 0.0], 1e-12);
    }

    #[test]
    fn both_levels_can_be_scaled() {
        let config = GigpoConfig { gamma: 0.5, scale: true, eps: 0.0, ..Default::default() };
        let half = 0.5 / 0.5_f64.sqrt();
        check_close(&gigpo(&config, &two()).unwrap().advantages[0], &[2.0 * half, half, half], 1e-12);
    }

    #[test]
    fn empty_groups_and_episodes_are_refused() {
        assert!(gigpo(&GigpoConfig::default(), &[]).is_err());
        let problem = gigpo(&GigpoConfig::default(), &[episode(&[("home", 1.0)]), Vec::new()]).unwrap_err().to_string();
        assert!(problem.starts_with("sequence 1 "), "{problem}");
    }
}
