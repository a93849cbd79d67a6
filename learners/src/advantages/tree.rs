//! Credit by the tree that a group's samples make of their tokens.

use std::collections::HashMap;

use crate::{Error, Result};

/// A sampled episode as its calls' prompt and completion token ids, in order, and what it earned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branch<'a> {
    /// `(prompt, completion)` of each call.
    pub calls: Vec<(&'a [u32], &'a [u32])>,
    /// All that the episode earned.
    pub reward: f64,
}

/// What leads from a beginning to a longer one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Edge<'a> {
    /// The episode's own token.
    Token(u32),
    /// The world's turn: the next call's prompt.
    Prompt(&'a [u32]),
}

/// `V(with the token) - V(before it)` of every token of every call, `V` being the mean reward of the group's samples that begin so: the
/// prefix values of TEMPO (2509.18314, prefix to tree), of which the branches alone are kept.
///
/// It is 0 wherever no sample of the group parts from this one, and from the place on where it is alone, so that neither what all said alike
/// nor what came after a mistake is credited. What the world did (the same tokens, another page) is credited to nobody. An episode's
/// advantages and the world's part sum to its reward less the group's mean.
///
/// # Errors
/// Rewards that are not finite.
pub fn tree<'a>(group: &[Branch<'a>]) -> Result<Vec<Vec<Vec<f64>>>> {
    if let Some(index) = group.iter().position(|branch| !branch.reward.is_finite()) {
        return Err(Error::Batch { index, problem: format!("its reward is {}", group[index].reward) });
    }
    // `sums[node]`: how many samples begin so, and what they earned; node 0 is where all begin.
    let (mut nodes, mut sums) = (HashMap::<(usize, Edge<'a>), usize>::new(), vec![(0usize, 0.0)]);
    let paths: Vec<Vec<Vec<usize>>> = group
        .iter()
        .map(|branch| {
            let mut walk = |at: usize, edge: Edge<'a>| {
                let next = *nodes.entry((at, edge)).or_insert(sums.len());
                if next == sums.len() {
                    sums.push((0, 0.0));
                }
                sums[next] = (sums[next].0 + 1, sums[next].1 + branch.reward);
                next
            };
            let mut at = 0;
            let call = |(prompt, completion): &(&'a [u32], &'a [u32])| {
                at = walk(at, Edge::Prompt(prompt));
                let mut path = vec![at];
                for token in *completion {
                    at = walk(at, Edge::Token(*token));
                    path.push(at);
                }
                path
            };
            branch.calls.iter().map(call).collect()
        })
        .collect();
    let value = |node: usize| sums[node].1 / sums[node].0 as f64;
    // Where as many samples go on as came, none parts.
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
    fn only_the_token_that_parted_samples_is_credited() {
        let prompt = &[1, 2][..];
        // Three samples part at the second token; what follows is each one's own.
        let group = [
            branch(&[(prompt, &[5, 6, 9])], 1.0),
            branch(&[(prompt, &[5, 7, 8])], 0.0),
            branch(&[(prompt, &[5, 7, 9])], 0.0),
            branch(&[(prompt, &[5, 6, 9])], 1.0),
        ];
        let found = tree(&group).unwrap();
        assert_eq!(found[0], [[0.0, 0.5, 0.0]]);
        assert_eq!(found[0], found[3]);
        // They part once more, and it makes no difference.
        assert_eq!((&found[1][0][..], &found[2][0][..]), (&[0.0, -0.5, 0.0][..], &[0.0, -0.5, 0.0][..]));
    }

    #[test]
    fn an_episodes_credit_is_what_it_earned_above_the_mean() {
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
    fn what_the_world_did_is_credited_to_nobody() {
        let group = [branch(&[(&[1], &[5]), (&[2], &[6])], 1.0), branch(&[(&[1], &[5]), (&[3], &[6])], 0.0)];
        assert!(tree(&group).unwrap().iter().flatten().flatten().all(|credit| *credit == 0.0));
        assert!(tree(&[branch(&[], f64::NAN)]).is_err());
    }
}
