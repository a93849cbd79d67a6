//! GiGPO (2505.10978): an episode against its group, and a step against steps from the same state.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{dr_grpo, grpo};
use crate::{Error, Result};

/// How step-level advantages are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GigpoConfig {
    /// Discount of the rewards that follow a step; verl-agent's scripts have 0.95.
    pub gamma: f64,
    /// Weight of the step level beside the episode level.
    pub step_weight: f64,
    /// Divide both levels by their standard deviation.
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
    /// The state it was taken in, without what varies by itself: raw page text almost never repeats.
    pub anchor: String,
    /// What it earned.
    pub reward: f64,
}

/// The advantages of one task's group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gigpo {
    /// `[episode][step]`; all tokens of a step share it.
    pub advantages: Vec<Vec<f64>>,
    /// How many clusters of equal anchors there are of each size; only those above 1 teach at the step level.
    pub cluster_sizes: BTreeMap<usize, usize>,
}

/// `A_E + step_weight * A_S` for every step of one task's episodes (GiGPO, 2505.10978, equations 3 and 5 to 8).
///
/// `A_E` compares an episode's summed reward over the episodes of the group; `A_S` compares a step's discounted return over the
/// steps with the same anchor, and is 0 for a step that has no like.
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

/// `Σ_{k≥t} γ^{k-t} r_k` for every step.
fn returns_to_go(steps: &[Step], gamma: f64) -> Vec<f64> {
    let mut returns = vec![0.0; steps.len()];
    let mut following = 0.0;
    for (step, value) in steps.iter().zip(&mut returns).rev() {
        following = step.reward + gamma * following;
        *value = following;
    }
    returns
}

/// `(episode, step)` of every anchor, in the order of its first sight.
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

    /// Both begin at `home`; the first goes by `list` to a success, the second is lost.
    fn two() -> [Vec<Step>; 2] {
        [episode(&[("home", 0.0), ("list", 0.0), ("item", 1.0)]), episode(&[("home", 0.0), ("help", 0.0)])]
    }

    #[test]
    fn a_step_is_compared_with_steps_from_the_same_state() {
        let config = GigpoConfig { gamma: 0.5, step_weight: 2.0, ..Default::default() };
        let got = gigpo(&config, &two()).unwrap();
        // A_E = ±1/2; the returns from `home` are 1/4 and 0, so A_S = ±1/8 there, and 0 where nothing compares.
        check_close(&got.advantages[0], &[0.75, 0.5, 0.5], 1e-12);
        check_close(&got.advantages[1], &[-0.75, -0.5], 1e-12);
        assert_eq!(got.cluster_sizes, BTreeMap::from([(1, 3), (2, 1)]));
    }

    #[test]
    fn a_loop_is_told_from_the_way_out_within_one_episode() {
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
