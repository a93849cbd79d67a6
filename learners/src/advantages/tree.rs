//! Token-level credit from the prefix tree that the tokens of a group's samples form.

use std::collections::HashMap;

use crate::{Error, Result};

/// A sampled episode: the prompt and completion token ids of its calls, in order, and its reward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branch<'a> {
    /// `(prompt, completion)` of each call.
    pub calls: Vec<(&'a [u32], &'a [u32])>,
    /// The episode's total reward.
    pub reward: f64,
}

/// An edge of the tree, from a prefix to a longer one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Edge<'a> {
    /// A token that the policy sampled.
    Token(u32),
    /// The next call's prompt, which the environment determines.
    Prompt(&'a [u32]),
}

/// Computes `V(prefix with the token) - V(prefix)` for every token of every call, `[episode][call][token]`, where `V` is the mean reward of
/// the group's samples that share the prefix: the prefix values of TEMPO (2509.18314, prefix to tree), kept only where samples branch.
///
/// A token's credit is 0 where all samples with its prefix continue with the same token. That includes every token after the point where
/// only one sample is left, so that neither common text nor the text after a mistake is credited. A difference in value that comes from the
/// environment (the same tokens, but another page) is credited to no token. The credits of an episode and the differences that come from
/// the environment sum to the episode's reward minus the group's mean.
///
/// # Errors
/// A reward is not finite.
pub fn tree<'a>(group: &[Branch<'a>]) -> Result<Vec<Vec<Vec<f64>>>> {
    if let Some(index) = group.iter().position(|branch| !branch.reward.is_finite()) {
        return Err(Error::Batch { index, problem: format!("its reward is {}", group[index].reward) });
    }
    // `sums[node]`: the number of samples with this prefix, and the sum of their rewards; node 0 is the empty prefix.
    let (mut nodes, mut sums) = (HashMap::<(usize, Edge<'a>), usize>::new(), vec![(0usize, 0.0)]);
    let paths: Vec<Vec<Vec<usize>>> = group
        .iter()
        .map(|branch| {
            let mut follow = |at: usize, edge: Edge<'a>| {
                let next = *nodes.entry((at, edge)).or_insert(sums.len());
                if next == sums.len() {
                    sums.push((0, 0.0));
                }
                sums[next] = (sums[next].0 + 1, sums[next].1 + branch.reward);
                next
            };
            let mut at = 0;
            let call = |(prompt, completion): &(&'a [u32], &'a [u32])| {
                at = follow(at, Edge::Prompt(prompt));
                let mut path = vec![at];
                for token in *completion {
                    at = follow(at, Edge::Token(*token));
                    path.push(at);
                }
                path
            };
            branch.calls.iter().map(call).collect()
        })
        .collect();
    let value = |node: usize| sums[node].1 / sums[node].0 as f64;
    // If as many samples continue as arrived, the tree does not branch here.
    let credit = |pair: &[usize]| if sums[pair[0]].0 == sums[pair[1]].0 { 0.0 } else { value(pair[1]) - value(pair[0]) };
    Ok(paths.iter().map(|calls| calls.iter().map(|path| path.windows(2).map(credit).collect()).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch<'a>(calls: &[(&'a [u32], &'a [u32])], reward: f64) -> Branch<'a> {
        Branch { calls: calls.to_vec(), reward }
    }

    #[test]
    fn only_the_token_at_a_branch_is_credited() {
        let prompt = &[1, 2][..];
        // The samples branch at the second token.
        let group = [
            branch(&[(prompt, &[5, 6, 9])], 1.0),
            branch(&[(prompt, &[5, 7, 8])], 0.0),
            branch(&[(prompt, &[5, 7, 9])], 0.0),
            branch(&[(prompt, &[5, 6, 9])], 1.0),
        ];
        let found = tree(&group).unwrap();
        assert_eq!(found[0], [[0.0, 0.5, 0.0]]);
        assert_eq!(found[0], found[3]);
        // They branch once more at the third token, where both values are 0.
        assert_eq!((&found[1][0][..], &found[2][0][..]), (&[0.0, -0.5, 0.0][..], &[0.0, -0.5, 0.0][..]));
    }

    #[test]
    fn an_episodes_credits_sum_to_its_reward_above_the_mean() {
        let (first, then) = (&[1][..], &[2][..]);
        let group = [
            branch(&[(first, &[5]), (then, &[6, 7])], 1.0),
            branch(&[(first, &[5]), (then, &[6, 8])], 0.0),
            branch(&[(first, &[4]), (then, &[6])], 0.5),
        ];
        for (found, branch) in tree(&group).unwrap().iter().zip(&group) {
            let sum: f64 = found.iter().flatten().sum();
            assert!((sum - (branch.reward - 0.5)).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn a_change_by_the_environment_is_credited_to_no_token() {
        let group = [branch(&[(&[1], &[5]), (&[2], &[6])], 1.0), branch(&[(&[1], &[5]), (&[3], &[6])], 0.0)];
        assert!(tree(&group).unwrap().iter().flatten().flatten().all(|credit| *credit == 0.0));
        assert!(tree(&[branch(&[], f64::NAN)]).is_err());
    }
}
