//! Which sequences go through the model together, and on which core.

use super::Sequence;
use crate::model::{Packed, input_len, shared_len};

/// The shortest common beginning that is worth sharing, in tokens.
const LEAST_SHARED: usize = 16;
/// The most tokens of a group, which goes through the model in one piece: thousands of samples of one prompt would fill the memory.
const MOST_TOKENS: usize = 4096;

/// Sequences that share a beginning, or one alone.
pub(super) struct Group {
    pub members: Vec<usize>,
    /// Tokens that all members begin with, and none is trained on.
    pub shared: usize,
    /// Tokens that go through the model.
    pub tokens: usize,
}

impl Group {
    pub fn pack(&self, packed: &mut Packed, sequences: &[Sequence]) {
        let members: Vec<_> = self.members.iter().map(|index| (*index, &sequences[*index])).collect();
        match members[..] {
            [(index, sequence)] => packed.push(index, sequence),
            _ => packed.push_group(&members, self.shared),
        }
    }
}

/// Every needed sequence alone.
pub(super) fn singles(sequences: &[Sequence]) -> Vec<Group> {
    let needed = (0..sequences.len()).filter(|&i| input_len(&sequences[i]) > 0);
    needed.map(|i| Group { members: vec![i], shared: 0, tokens: input_len(&sequences[i]) }).collect()
}

/// Sequences with a long enough common beginning together, wherever they stand in the batch.
pub(super) fn groups(sequences: &[Sequence]) -> Vec<Group> {
    let mut sorted = singles(sequences);
    sorted.sort_by(|a, b| sequences[a.members[0]].tokens.cmp(&sequences[b.members[0]].tokens));
    let mut groups: Vec<Group> = Vec::new();
    for single in sorted {
        let index = single.members[0];
        if let Some(last) = groups.last_mut() {
            let with_first = shared_len(&sequences[last.members[0]], &sequences[index]);
            let shared = if last.members.len() == 1 { with_first } else { with_first.min(last.shared) };
            // A group keeps the beginning that it has: giving some of it up would cost every member more.
            let more = single.tokens - shared.min(single.tokens);
            let fits = last.tokens + more <= MOST_TOKENS;
            if fits && shared >= LEAST_SHARED && (last.members.len() == 1 || shared == last.shared) {
                last.tokens += more;
                last.members.push(index);
                last.shared = shared;
                continue;
            }
        }
        groups.push(single);
    }
    groups
}

/// Deals the groups out, longest first and always to the least loaded; the same for the same lengths.
pub(super) fn share(groups: &[Group], workers: usize) -> Vec<Vec<&Group>> {
    let mut order: Vec<&Group> = groups.iter().collect();
    order.sort_by_key(|group| std::cmp::Reverse(group.tokens));
    let mut shares = vec![(0usize, Vec::new()); workers];
    for group in order {
        if let Some((load, share)) = shares.iter_mut().min_by_key(|(load, _)| *load) {
            *load += group.tokens;
            share.push(group);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_many_samples_is_split_before_it_fills_the_memory() {
        let sample = |tail: u32| {
            let tokens: Vec<u32> = (0..600).chain((0..60).map(|t| 700 + tail + t)).collect();
            let weights = (0..tokens.len()).map(|t| if t < 600 { 0.0 } else { 1.0 }).collect();
            Sequence { weights, tokens, ..Sequence::default() }
        };
        let sequences: Vec<Sequence> = (0..200).map(sample).collect();
        let found = groups(&sequences);
        assert!(found.len() >= 3 && found.iter().all(|group| group.tokens <= MOST_TOKENS && group.members.len() > 1));
        let mut members: Vec<usize> = found.iter().flat_map(|group| group.members.clone()).collect();
        members.sort_unstable();
        assert_eq!(members, (0..200).collect::<Vec<_>>());
    }
}
