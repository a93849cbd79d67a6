//! Credit assignment: turns the rewards of rollouts into one advantage per call, or per token.

use std::collections::BTreeMap;

use super::config::{CreditKind, PolicyConfig};
use super::rollout::{ModelCall, Rollout};
use crate::Result;
use crate::advantages::{Branch, Gigpo, Group, ShapingConfig, Step, advantages, all_equal, gae, gigpo, mira, mira_steps, tree, whiten};

/// The advantages of a batch of rollouts, with statistics about their groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreditAssignment {
    /// `[rollout][call]`: the advantage of each call; `None` for a rollout of a group without a signal. With token-level credit, the
    /// advantage of the call's token that is furthest from 0.
    pub advantages: Vec<Option<Vec<f64>>>,
    /// `[rollout][call][token]`: the advantage of each token with token-level credit; empty otherwise.
    pub token_advantages: Vec<Vec<Vec<f64>>>,
    /// The number of groups; a group holds the episodes of one task.
    pub groups: usize,
    /// The number of groups without a signal: their episodes earned equal rewards, and so did their calls or steps if these are compared.
    pub flat_groups: usize,
    /// MiRA: the mean over episodes of the sum of their shaping; it must not dwarf the outcome.
    pub mean_shaping: f64,
    /// GiGPO: the number of clusters of equal states by cluster size; only clusters larger than 1 give a step-level signal.
    pub cluster_sizes: BTreeMap<usize, usize>,
}

/// Computes the advantage of every call.
///
/// An episode without any call (its time was over before the first one) gets no advantage and is not compared with others.
///
/// # Errors
/// A reward or an estimate is not finite.
pub fn assign_credit(rollouts: &[Rollout], config: &PolicyConfig) -> Result<CreditAssignment> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rollout) in rollouts.iter().enumerate().filter(|(_, rollout)| !rollout.calls.is_empty()) {
        groups.entry(&rollout.group).or_default().push(index);
    }
    let mut credit = CreditAssignment { advantages: vec![None; rollouts.len()], groups: groups.len(), ..CreditAssignment::default() };
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for members in groups.into_values() {
        let no_signal = !has_signal(rollouts, &members, config)?;
        credit.flat_groups += usize::from(no_signal);
        // MiRA and PPO compare an episode with their critics, and so learn from a single episode too.
        if !no_signal || matches!(config.credit, CreditKind::Mira | CreditKind::Ppo | CreditKind::Success) {
            kept.push(members);
        }
    }
    match config.credit {
        CreditKind::Episode => by_episode(rollouts, &kept, config, &mut credit)?,
        CreditKind::Step => by_step(rollouts, &kept, config, &mut credit)?,
        CreditKind::Mira => by_critics(rollouts, &kept, config, &mut credit)?,
        CreditKind::Ppo => by_returns(rollouts, &kept, config, &mut credit)?,
        CreditKind::Tree => by_tokens(rollouts, &kept, &mut credit)?,
        CreditKind::Success => {
            for i in kept.into_iter().flatten().filter(|i| rollouts[*i].success) {
                credit.advantages[i] = Some(vec![1.0; rollouts[i].calls.len()]);
            }
        }
    }
    Ok(credit)
}

/// The bound below which an advantage is 0 up to rounding.
const ROUNDING: f64 = 1e-9;

/// Returns false if the group's episodes earned equal rewards, and so did its calls or steps if the kind of credit compares these.
fn has_signal(rollouts: &[Rollout], members: &[usize], config: &PolicyConfig) -> Result<bool> {
    let totals: Vec<f64> = members.iter().map(|i| rollouts[*i].total()).collect();
    let within_groups = config.credit != CreditKind::Episode || config.advantage.estimator.within_groups();
    if !within_groups || !all_equal(&totals) {
        return Ok(true);
    }
    Ok(match config.credit {
        CreditKind::Episode | CreditKind::Tree => false,
        CreditKind::Step => {
            let steps = step_advantages(rollouts, members, config)?.advantages;
            !steps.iter().flatten().all(|advantage| advantage.abs() < ROUNDING)
        }
        CreditKind::Mira | CreditKind::Ppo | CreditKind::Success => !equal_call_rewards(rollouts, members),
    })
}

/// Returns true if all calls of a group earned the same reward.
fn equal_call_rewards(rollouts: &[Rollout], members: &[usize]) -> bool {
    let rewards: Vec<f64> = members.iter().flat_map(|i| rollouts[*i].calls.iter().map(|call| call.reward)).collect();
    rewards.is_empty() || all_equal(&rewards)
}

/// Assigns every call its episode's advantage relative to the group.
fn by_episode(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credit: &mut CreditAssignment) -> Result<()> {
    let group = |members: &Vec<usize>| Group {
        rewards: members.iter().map(|i| rollouts[*i].total()).collect(),
        tokens: members.iter().map(|i| rollouts[*i].trained_tokens()).collect(),
    };
    let groups: Vec<Group> = kept.iter().map(group).collect();
    if groups.is_empty() {
        return Ok(());
    }
    for (members, found) in kept.iter().zip(advantages(&config.advantage, &groups)?) {
        for (i, advantage) in members.iter().zip(found) {
            credit.advantages[*i] = Some(vec![advantage; rollouts[*i].calls.len()]);
        }
    }
    Ok(())
}

/// Computes GiGPO's advantages for one group. If all its episodes earned equal rewards, the shorter path from a state is the better one.
fn step_advantages(rollouts: &[Rollout], members: &[usize], config: &PolicyConfig) -> Result<Gigpo> {
    let steps = |i: &usize| -> Vec<Step> {
        let calls = rollouts[*i].calls.iter().zip(rollouts[*i].rewards());
        calls.map(|(call, reward)| Step { anchor: call.anchor.clone(), reward }).collect()
    };
    gigpo(&config.gigpo, &members.iter().map(steps).collect::<Vec<_>>())
}

/// Assigns the step-level advantages of GiGPO.
fn by_step(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credit: &mut CreditAssignment) -> Result<()> {
    for members in kept {
        let found = step_advantages(rollouts, members, config)?;
        for (size, count) in found.cluster_sizes {
            *credit.cluster_sizes.entry(size).or_default() += count;
        }
        for (i, advantages) in members.iter().zip(found.advantages) {
            credit.advantages[*i] = Some(advantages);
        }
    }
    Ok(())
}

/// Assigns MiRA's advantages from the estimates of the value critic and the potential critic.
fn by_critics(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credit: &mut CreditAssignment) -> Result<()> {
    let (mut shaping, mut episodes) = (0.0, 0usize);
    for i in kept.iter().flatten() {
        let rollout = &rollouts[*i];
        let shape =
            ShapingConfig { potential: config.shaping.potential && (rollout.success || config.shape_failures), ..config.shaping.clone() };
        let of = |estimate: fn(&ModelCall) -> f64| rollout.calls.iter().map(estimate).collect::<Vec<f64>>();
        let mut steps = mira_steps(&config.mira, &shape, &of(|call| call.value), &of(|call| call.potential), rollout.success)?;
        // The last call's reward includes the outcome and other configured rewards, such as a failure's credit for its milestones.
        steps.iter_mut().zip(rollout.rewards()).for_each(|(step, reward)| step.reward = reward);
        shaping += steps.iter().map(|step| step.shaping).sum::<f64>();
        episodes += 1;
        credit.advantages[*i] = Some(mira(&config.mira, &steps, rollout.total())?);
    }
    credit.mean_shaping = shaping / episodes.max(1) as f64;
    Ok(())
}

/// Assigns PPO's advantages from the estimates of the return critic.
fn by_returns(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credit: &mut CreditAssignment) -> Result<()> {
    let members: Vec<usize> = kept.iter().flatten().copied().collect();
    let one = |i: &usize| {
        let values: Vec<f64> = rollouts[*i].calls.iter().map(|call| call.value).collect();
        gae(&config.gae, &rollouts[*i].rewards(), &values)
    };
    let found = members.iter().map(one).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<f64> = found.iter().flatten().copied().collect();
    if config.gae.whiten && !all.is_empty() {
        let tokens: Vec<f64> = members.iter().flat_map(|i| rollouts[*i].calls.iter().map(|call| call.trained_tokens() as f64)).collect();
        whiten(&mut all, &tokens)?;
    }
    let mut all = all.into_iter();
    for (i, found) in members.iter().zip(&found) {
        credit.advantages[*i] = Some(all.by_ref().take(found.len()).collect());
    }
    Ok(())
}

/// Assigns token-level advantages from the prefix tree of each group.
fn by_tokens(rollouts: &[Rollout], kept: &[Vec<usize>], credit: &mut CreditAssignment) -> Result<()> {
    credit.token_advantages = vec![Vec::new(); rollouts.len()];
    for members in kept {
        let branch = |i: &usize| Branch {
            calls: rollouts[*i].calls.iter().map(|call| (&call.prompt[..], &call.completion[..])).collect(),
            reward: rollouts[*i].total(),
        };
        for (i, calls) in members.iter().zip(tree(&members.iter().map(branch).collect::<Vec<_>>())?) {
            let furthest = |tokens: &Vec<f64>| tokens.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            credit.advantages[*i] = Some(calls.iter().map(furthest).collect());
            credit.token_advantages[*i] = calls;
        }
    }
    // Most tokens have an advantage of 0. Scale the others so that the mean absolute advantage over the trained tokens of all calls with
    // any credit is 1.
    let kept = || kept.iter().flatten();
    let trained: usize = kept().map(|i| trained_in_credited_calls(&rollouts[*i], &credit.token_advantages[*i])).sum();
    let sum: f64 = kept().flat_map(|i| credit.token_advantages[*i].iter().flatten()).map(|a| a.abs()).sum();
    if sum > 0.0 {
        let scale = trained as f64 / sum;
        credit.token_advantages.iter_mut().flatten().flatten().for_each(|a| *a *= scale);
        credit.advantages.iter_mut().flatten().flatten().for_each(|a| *a *= scale);
    }
    Ok(())
}

/// Counts the trained tokens of the calls in which any token has an advantage other than 0.
fn trained_in_credited_calls(rollout: &Rollout, token_advantages: &[Vec<f64>]) -> usize {
    let credited = rollout.calls.iter().zip(token_advantages).filter(|(_, advantages)| advantages.iter().any(|a| *a != 0.0));
    credited.map(|(call, _)| call.trained_tokens()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(group: &str, reward: f64, anchors: &[&str]) -> Rollout {
        let calls = anchors.iter().map(|a| ModelCall { anchor: (*a).into(), trained: vec![true], ..Default::default() }).collect();
        Rollout { group: group.into(), reward, success: reward > 0.0, calls, ..Default::default() }
    }

    fn config(credit: CreditKind) -> PolicyConfig {
        PolicyConfig { credit, ..Default::default() }
    }

    #[test]
    fn groups_without_a_signal_get_no_advantage() {
        let rollouts = [rollout("a", 1.0, &["x"]), rollout("a", 1.0, &["y"]), rollout("b", 1.0, &["x"]), rollout("b", 0.0, &["y"])];
        let credited = assign_credit(&rollouts, &config(CreditKind::Episode)).unwrap();
        assert_eq!((credited.groups, credited.flat_groups), (2, 1));
        assert!(credited.advantages[0].is_none() && credited.advantages[2].as_ref().unwrap()[0] > 0.0);
    }

    #[test]
    fn an_episode_shares_its_advantage_and_steps_from_one_state_are_compared() {
        let rollouts = [rollout("a", 1.0, &["home", "list"]), rollout("a", 0.0, &["home", "help"])];
        let flat = assign_credit(&rollouts, &config(CreditKind::Episode)).unwrap().advantages;
        assert_eq!(flat[0].as_ref().unwrap()[0], flat[0].as_ref().unwrap()[1]);
        let credited = assign_credit(&rollouts, &config(CreditKind::Step)).unwrap();
        let steps = credited.advantages[0].as_ref().unwrap();
        assert!(steps[0] > steps[1], "only `home` occurs twice: {steps:?}");
        assert_eq!(credited.cluster_sizes, BTreeMap::from([(1, 2), (2, 1)]));
    }

    #[test]
    fn among_successes_the_shorter_path_from_a_state_is_better_and_equal_paths_have_no_signal() {
        let by_step = |rollouts: &[Rollout]| assign_credit(rollouts, &config(CreditKind::Step)).unwrap();
        let paths = [rollout("a", 1.0, &["home", "list", "item"]), rollout("a", 1.0, &["home", "help", "home", "list", "item"])];
        let credited = by_step(&paths);
        let [straight, detour] = [0, 1].map(|i| credited.advantages[i].clone().unwrap());
        assert!(credited.flat_groups == 0 && straight[0] > 0.0 && detour[0] < 0.0 && detour[1] == 0.0, "{straight:?} {detour:?}");
        let equal = by_step(&[paths[0].clone(), paths[0].clone(), paths[0].clone()]);
        assert!(equal.flat_groups == 1 && equal.advantages.iter().all(Option::is_none), "{equal:?}");
    }

    #[test]
    fn an_episode_without_a_call_is_left_out_whatever_the_credit() {
        let rollouts = [rollout("a", 1.0, &["x"]), rollout("a", 0.0, &["x"]), rollout("a", 0.0, &[]), rollout("b", 0.0, &[])];
        for credit in [CreditKind::Episode, CreditKind::Step, CreditKind::Mira, CreditKind::Ppo, CreditKind::Tree, CreditKind::Success] {
            let credited = assign_credit(&rollouts, &config(credit)).unwrap();
            assert!(credited.groups == 1 && credited.advantages[2..].iter().all(Option::is_none), "{credit:?}: {credited:?}");
            assert!(credited.advantages[0].is_some(), "{credit:?}");
        }
    }

    #[test]
    fn a_single_episode_is_compared_with_its_critics_and_only_successes_are_shaped() {
        let mut good = rollout("a", 1.0, &["x", "y"]);
        (good.calls[0].value, good.calls[1].value, good.calls[1].potential) = (0.4, 0.55, 0.5);
        let mut bad = good.clone();
        (bad.success, bad.reward) = (false, 0.0);
        let config = config(CreditKind::Mira);
        let credited = assign_credit(&[good, bad], &config).unwrap();
        // One step: 0.5 (0 + 0.3 * 0.5 + 0.9 * 0.55 - 0.4) + 0.5 (1 - 0.4).
        let got = credited.advantages[0].as_ref().unwrap()[0];
        assert!((got - (0.5 * (0.15 + 0.495 - 0.4) + 0.3)).abs() < 1e-12, "{got}");
        assert!((credited.mean_shaping - 0.15).abs() < 1e-12, "{credited:?}");
    }

    #[test]
    fn a_failures_reward_for_milestones_reaches_miras_advantage() {
        let config = config(CreditKind::Mira);
        let last = |reward: f64| {
            let bad = Rollout { success: false, ..rollout("a", reward, &["x", "y"]) };
            assign_credit(&[bad], &config).unwrap().advantages[0].as_ref().unwrap()[1]
        };
        assert!((last(0.2) - last(0.0) - 0.2).abs() < 1e-12, "{} {}", last(0.2), last(0.0));
    }

    #[test]
    fn ppo_credits_a_call_with_what_came_after_it() {
        let mut good = rollout("a", 1.0, &["x", "y"]);
        (good.calls[0].reward, good.calls[0].value, good.calls[1].value) = (-0.1, 0.4, 0.7);
        let bad = rollout("b", 0.0, &["x"]);
        let mut config = config(CreditKind::Ppo);
        config.gae.whiten = false;
        assert_eq!(good.returns(1.0), [0.9, 1.0]);
        let credited = assign_credit(&[good.clone(), bad.clone()], &config).unwrap();
        let got: Vec<f64> = credited.advantages.iter().flatten().flatten().copied().collect();
        for (got, want) in got.iter().zip([0.5, 0.3, 0.0]) {
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
        config.gae.whiten = true;
        let whitened = assign_credit(&[good, bad], &config).unwrap().advantages;
        assert!(whitened.iter().flatten().flatten().sum::<f64>().abs() < 1e-9, "{whitened:?}");
    }
}
