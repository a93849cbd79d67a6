//! Grouping of sequences that share a prefix, and distribution of the groups over the workers.

use crate::model::{Packed, input_len, shared_len};
use crate::sequence::Sequence;

/// The minimum length of a common prefix that is shared, in tokens.
const MIN_SHARED: usize = 16;
/// The maximum number of tokens of a group. A group is computed in one piece, so that thousands of samples of one prompt would fill the memory.
const MAX_TOKENS: usize = 4096;

/// Sequences that share a prefix, or a single sequence.
pub(super) struct Group {
    /// The indices of the sequences in the batch.
    pub members: Vec<usize>,
    /// The length of the shared prefix, whose tokens no member trains.
    pub shared: usize,
    /// The number of tokens that the model computes for the group.
    pub tokens: usize,
}

impl Group {
    /// Appends the group to `packed`.
    pub fn pack(&self, packed: &mut Packed, sequences: &[Sequence]) {
        let members: Vec<_> = self.members.iter().map(|index| (*index, &sequences[*index])).collect();
        match members[..] {
            [(index, sequence)] => packed.push(index, sequence),
            _ => packed.push_group(&members, self.shared),
        }
    }
}

/// Returns a group of its own for every sequence that needs a prediction.
pub(super) fn ungrouped(sequences: &[Sequence]) -> Vec<Group> {
    let needed = (0..sequences.len()).filter(|&i| input_len(&sequences[i]) > 0);
    needed.map(|i| Group { members: vec![i], shared: 0, tokens: input_len(&sequences[i]) }).collect()
}

/// Groups the sequences that have a long enough common prefix, wherever they are in the batch.
pub(super) fn group_by_prefix(sequences: &[Sequence]) -> Vec<Group> {
    let mut sorted = ungrouped(sequences);
    sorted.sort_by(|a, b| sequences[a.members[0]].tokens.cmp(&sequences[b.members[0]].tokens));
    let mut groups: Vec<Group> = Vec::new();
    for single in sorted {
        let index = single.members[0];
        if let Some(last) = groups.last_mut() {
            let with_first = shared_len(&sequences[last.members[0]], &sequences[index]);
            let shared = if last.members.len() == 1 { with_first } else { with_first.min(last.shared) };
            // A group keeps the length of its shared prefix: a shorter prefix would make every member longer.
            let more = single.tokens - shared.min(single.tokens);
            let fits = last.tokens + more <= MAX_TOKENS;
            if fits && shared >= MIN_SHARED && (last.members.len() == 1 || shared == last.shared) {
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

/// Distributes the groups over the workers, longest first and always to the least loaded worker. The result depends on the lengths only.
pub(super) fn distribute(groups: &[Group], workers: usize) -> Vec<Vec<&Group>> {
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
        let found = group_by_prefix(&sequences);
        assert!(found.len() >= 3 && found.iter().all(|group| group.tokens <= MAX_TOKENS && group.members.len() > 1));
        let mut members: Vec<usize> = found.iter().flat_map(|group| group.members.clone()).collect();
        members.sort_unstable();
        assert_eq!(members, (0..200).collect::<Vec<_>>());
    }
}
