//! From rewards to one advantage a call.

use std::collections::BTreeMap;

use super::{CreditKind, PolicyConfig, Rollout, Turn};
use crate::Result;
use crate::advantages::{Branch, Gigpo, Group, ShapingConfig, Step, advantages, flat, gae, gigpo, mira, mira_steps, tree, whiten};

/// Advantages, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credited {
    /// `[rollout][call]`; `None` for a rollout whose group says nothing. Where tokens are credited, the furthest from 0 among the call's.
    pub advantages: Vec<Option<Vec<f64>>>,
    /// `[rollout][call][token]` where tokens are credited, else empty.
    pub of_tokens: Vec<Vec<Vec<f64>>>,
    /// Groups of equal tasks.
    pub groups: usize,
    /// Groups that say nothing: their episodes all earned the same, and so did their calls or steps where these are compared.
    pub flat_groups: usize,
    /// MiRA: the sum of an episode's shaping, on average; it must not dwarf the outcome.
    pub mean_shaping: f64,
    /// GiGPO: clusters of equal states by their size; only those above 1 teach at the step level.
    pub cluster_sizes: BTreeMap<usize, usize>,
}

/// Gives every call its advantage.
///
/// An episode without a call, whose time was over before its first, says nothing and is compared with nothing.
///
/// # Errors
/// Rewards or estimates that are not finite.
pub fn assign(rollouts: &[Rollout], config: &PolicyConfig) -> Result<Credited> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rollout) in rollouts.iter().enumerate().filter(|(_, rollout)| !rollout.turns.is_empty()) {
        groups.entry(&rollout.group).or_default().push(index);
    }
    let mut credited = Credited { advantages: vec![None; rollouts.len()], groups: groups.len(), ..Credited::default() };
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for members in groups.into_values() {
        let totals: Vec<f64> = members.iter().map(|i| rollouts[*i].total()).collect();
        let compared = config.credit != CreditKind::Episode || config.advantage.estimator.within_groups();
        let says_nothing = compared
            && flat(&totals)
            && match config.credit {
                CreditKind::Episode | CreditKind::Tree => true,
                CreditKind::Step => compared_by_step(rollouts, &members, config)?.advantages.iter().flatten().all(|a| a.abs() < NOTHING),
                CreditKind::Mira | CreditKind::Ppo | CreditKind::Success => same_by_call(rollouts, &members),
            };
        credited.flat_groups += usize::from(says_nothing);
        // MiRA and PPO compare an episode with their critics, and learn from a lone one too.
        if !says_nothing || matches!(config.credit, CreditKind::Mira | CreditKind::Ppo | CreditKind::Success) {
            kept.push(members);
        }
    }
    match config.credit {
        CreditKind::Episode => by_episode(rollouts, &kept, config, &mut credited)?,
        CreditKind::Step => by_step(rollouts, &kept, config, &mut credited)?,
        CreditKind::Mira => by_critics(rollouts, &kept, config, &mut credited)?,
        CreditKind::Ppo => by_returns(rollouts, &kept, config, &mut credited)?,
        CreditKind::Tree => by_tokens(rollouts, &kept, &mut credited)?,
        CreditKind::Success => {
            for i in kept.into_iter().flatten().filter(|i| rollouts[*i].success) {
                credited.advantages[i] = Some(vec![1.0; rollouts[i].turns.len()]);
            }
        }
    }
    Ok(credited)
}

/// What rounding leaves of an advantage of 0.
const NOTHING: f64 = 1e-9;

/// Whether no call of a group earned something that another did not.
fn same_by_call(rollouts: &[Rollout], members: &[usize]) -> bool {
    let rewards: Vec<f64> = members.iter().flat_map(|i| rollouts[*i].turns.iter().map(|turn| turn.reward)).collect();
    rewards.is_empty() || flat(&rewards)
}

fn by_episode(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credited: &mut Credited) -> Result<()> {
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
            credited.advantages[*i] = Some(vec![advantage; rollouts[*i].turns.len()]);
        }
    }
    Ok(())
}

/// The steps of a group against those from the same state; where all its episodes earned the same, the shorter way from a state is the better.
fn compared_by_step(rollouts: &[Rollout], members: &[usize], config: &PolicyConfig) -> Result<Gigpo> {
    let steps = |i: &usize| -> Vec<Step> {
        let turns = rollouts[*i].turns.iter().zip(rollouts[*i].rewards());
        turns.map(|(turn, reward)| Step { anchor: turn.anchor.clone(), reward }).collect()
    };
    gigpo(&config.gigpo, &members.iter().map(steps).collect::<Vec<_>>())
}

fn by_step(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credited: &mut Credited) -> Result<()> {
    for members in kept {
        let found = compared_by_step(rollouts, members, config)?;
        for (size, count) in found.cluster_sizes {
            *credited.cluster_sizes.entry(size).or_default() += count;
        }
        for (i, advantages) in members.iter().zip(found.advantages) {
            credited.advantages[*i] = Some(advantages);
        }
    }
    Ok(())
}

fn by_critics(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credited: &mut Credited) -> Result<()> {
    let (mut shaping, mut episodes) = (0.0, 0usize);
    for i in kept.iter().flatten() {
        let rollout = &rollouts[*i];
        let shape =
            ShapingConfig { potential: config.shaping.potential && (rollout.success || config.shape_failures), ..config.shaping.clone() };
        let of = |estimate: fn(&Turn) -> f64| rollout.turns.iter().map(estimate).collect::<Vec<f64>>();
        let mut steps = mira_steps(&config.mira, &shape, &of(|turn| turn.value), &of(|turn| turn.potential), rollout.success)?;
        // The outcome is the last call's reward; beside it may stand what else was asked for, such as the credit of a failure for its milestones.
        steps.iter_mut().zip(rollout.rewards()).for_each(|(step, reward)| step.reward = reward);
        shaping += steps.iter().map(|step| step.shaping).sum::<f64>();
        episodes += 1;
        credited.advantages[*i] = Some(mira(&config.mira, &steps, rollout.total())?);
    }
    credited.mean_shaping = shaping / episodes.max(1) as f64;
    Ok(())
}

fn by_returns(rollouts: &[Rollout], kept: &[Vec<usize>], config: &PolicyConfig, credited: &mut Credited) -> Result<()> {
    let members: Vec<usize> = kept.iter().flatten().copied().collect();
    let one = |i: &usize| {
        let values: Vec<f64> = rollouts[*i].turns.iter().map(|turn| turn.value).collect();
        gae(&config.gae, &rollouts[*i].rewards(), &values)
    };
    let found = members.iter().map(one).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<f64> = found.iter().flatten().copied().collect();
    if config.gae.whiten && !all.is_empty() {
        let tokens: Vec<f64> = members.iter().flat_map(|i| rollouts[*i].turns.iter().map(|turn| turn.trained_tokens() as f64)).collect();
        whiten(&mut all, &tokens)?;
    }
    let mut all = all.into_iter();
    for (i, found) in members.iter().zip(&found) {
        credited.advantages[*i] = Some(all.by_ref().take(found.len()).collect());
    }
    Ok(())
}

fn by_tokens(rollouts: &[Rollout], kept: &[Vec<usize>], credited: &mut Credited) -> Result<()> {
    credited.of_tokens = vec![Vec::new(); rollouts.len()];
    for members in kept {
        let branch = |i: &usize| Branch {
            calls: rollouts[*i].turns.iter().map(|turn| (&turn.prompt[..], &turn.completion[..])).collect(),
            reward: rollouts[*i].total(),
        };
        for (i, calls) in members.iter().zip(tree(&members.iter().map(branch).collect::<Vec<_>>())?) {
            let furthest = |tokens: &Vec<f64>| tokens.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            credited.advantages[*i] = Some(calls.iter().map(furthest).collect());
            credited.of_tokens[*i] = calls;
        }
    }
    // Few tokens decide anything: as if the others were not there, their mean size is 1 where all trained tokens' mean is taken.
    let kept = || kept.iter().flatten();
    let trained: usize = kept().map(|i| spoken(&rollouts[*i], &credited.of_tokens[*i])).sum();
    let sum: f64 = kept().flat_map(|i| credited.of_tokens[*i].iter().flatten()).map(|a| a.abs()).sum();
    if sum > 0.0 {
        let scale = trained as f64 / sum;
        credited.of_tokens.iter_mut().flatten().flatten().for_each(|a| *a *= scale);
        credited.advantages.iter_mut().flatten().flatten().for_each(|a| *a *= scale);
    }
    Ok(())
}

/// Trained tokens of the calls in which something is credited.
fn spoken(rollout: &Rollout, credits: &[Vec<f64>]) -> usize {
    let credited = rollout.turns.iter().zip(credits).filter(|(_, credits)| credits.iter().any(|a| *a != 0.0));
    credited.map(|(turn, _)| turn.trained_tokens()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(group: &str, reward: f64, anchors: &[&str]) -> Rollout {
        let turns = anchors.iter().map(|a| Turn { anchor: (*a).into(), trained: vec![true], ..Default::default() }).collect();
        Rollout { group: group.into(), reward, success: reward > 0.0, turns, ..Default::default() }
    }

    fn config(credit: CreditKind) -> PolicyConfig {
        PolicyConfig { credit, ..Default::default() }
    }

    #[test]
    fn groups_that_say_nothing_are_left_out_before_any_forward() {
        let rollouts = [rollout("a", 1.0, &["x"]), rollout("a", 1.0, &["y"]), rollout("b", 1.0, &["x"]), rollout("b", 0.0, &["y"])];
        let credited = assign(&rollouts, &config(CreditKind::Episode)).unwrap();
        assert_eq!((credited.groups, credited.flat_groups), (2, 1));
        assert!(credited.advantages[0].is_none() && credited.advantages[2].as_ref().unwrap()[0] > 0.0);
    }

    #[test]
    fn an_episode_shares_its_advantage_and_steps_from_one_state_are_compared() {
        let rollouts = [rollout("a", 1.0, &["home", "list"]), rollout("a", 0.0, &["home", "help"])];
        let flat = assign(&rollouts, &config(CreditKind::Episode)).unwrap().advantages;
        assert_eq!(flat[0].as_ref().unwrap()[0], flat[0].as_ref().unwrap()[1]);
        let credited = assign(&rollouts, &config(CreditKind::Step)).unwrap();
        let steps = credited.advantages[0].as_ref().unwrap();
        assert!(steps[0] > steps[1], "only `home` has a like: {steps:?}");
        assert_eq!(credited.cluster_sizes, BTreeMap::from([(1, 2), (2, 1)]));
    }

    #[test]
    fn of_successes_alone_the_shorter_way_from_a_state_is_the_better_and_alike_ones_say_nothing() {
        let by_step = |rollouts: &[Rollout]| assign(rollouts, &config(CreditKind::Step)).unwrap();
        let ways = [rollout("a", 1.0, &["home", "list", "item"]), rollout("a", 1.0, &["home", "help", "home", "list", "item"])];
        let credited = by_step(&ways);
        let [straight, detour] = [0, 1].map(|i| credited.advantages[i].clone().unwrap());
        assert!(credited.flat_groups == 0 && straight[0] > 0.0 && detour[0] < 0.0 && detour[1] == 0.0, "{straight:?} {detour:?}");
        let alike = by_step(&[ways[0].clone(), ways[0].clone(), ways[0].clone()]);
        assert!(alike.flat_groups == 1 && alike.advantages.iter().all(Option::is_none), "{alike:?}");
    }

    #[test]
    fn an_episode_without_a_call_is_left_out_whatever_the_credit() {
        let rollouts = [rollout("a", 1.0, &["x"]), rollout("a", 0.0, &["x"]), rollout("a", 0.0, &[]), rollout("b", 0.0, &[])];
        for credit in [CreditKind::Episode, CreditKind::Step, CreditKind::Mira, CreditKind::Ppo, CreditKind::Tree, CreditKind::Success] {
            let credited = assign(&rollouts, &config(credit)).unwrap();
            assert!(credited.groups == 1 && credited.advantages[2..].iter().all(Option::is_none), "{credit:?}: {credited:?}");
            assert!(credited.advantages[0].is_some(), "{credit:?}");
        }
    }

    #[test]
    fn a_lone_episode_teaches_against_its_critics_and_shaping_is_of_successes_only() {
        let mut good = rollout("a", 1.0, &["x", "y"]);
        (good.turns[0].value, good.turns[1].value, good.turns[1].potential) = (0.4, 0.55, 0.5);
        let mut bad = good.clone();
        (bad.success, bad.reward) = (false, 0.0);
        let config = config(CreditKind::Mira);
        let credited = assign(&[good, bad], &config).unwrap();
        // One step: 0.5 (0 + 0.3 * 0.5 + 0.9 * 0.55 - 0.4) + 0.5 (1 - 0.4).
        let got = credited.advantages[0].as_ref().unwrap()[0];
        assert!((got - (0.5 * (0.15 + 0.495 - 0.4) + 0.3)).abs() < 1e-12, "{got}");
        assert!((credited.mean_shaping - 0.15).abs() < 1e-12, "{credited:?}");
    }

    #[test]
    fn what_a_failure_earned_for_its_milestones_reaches_miras_advantage() {
        let config = config(CreditKind::Mira);
        let last = |reward: f64| {
            let bad = Rollout { success: false, ..rollout("a", reward, &["x", "y"]) };
            assign(&[bad], &config).unwrap().advantages[0].as_ref().unwrap()[1]
        };
        assert!((last(0.2) - last(0.0) - 0.2).abs() < 1e-12, "{} {}", last(0.2), last(0.0));
    }

    #[test]
    fn ppo_credits_a_call_with_what_came_after_it() {
        let mut good = rollout("a", 1.0, &["x", "y"]);
        (good.turns[0].reward, good.turns[0].value, good.turns[1].value) = (-0.1, 0.4, 0.7);
        let bad = rollout("b", 0.0, &["x"]);
        let mut config = config(CreditKind::Ppo);
        config.gae.whiten = false;
        assert_eq!(good.returns(1.0), [0.9, 1.0]);
        let credited = assign(&[good.clone(), bad.clone()], &config).unwrap();
        let got: Vec<f64> = credited.advantages.iter().flatten().flatten().copied().collect();
        for (got, want) in got.iter().zip([0.5, 0.3, 0.0]) {
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
        config.gae.whiten = true;
        let whitened = assign(&[good, bad], &config).unwrap().advantages;
        assert!(whitened.iter().flatten().flatten().sum::<f64>().abs() < 1e-9, "{whitened:?}");
    }
}
