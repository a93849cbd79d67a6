//! Packed sequences: the tokens of several sequences end to end, with the rows whose predictions are needed.

use std::ops::Range;

use crate::ops::attention::Span;
use crate::ops::head::LogitsProcessor;
use crate::sequence::Sequence;

/// The rows of a layer's output that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputRows {
    /// All rows: another layer follows.
    All,
    /// The rows whose next token is predicted: this is the last layer, which computes queries, attention output and MLP only for them.
    Needed,
}

/// The sequences of one micro-batch, packed without padding. `N` is the number of tokens, `M` the number of needed rows.
///
/// A sequence's tokens after its last needed prediction are left out, and so is a sequence without any needed prediction. Sequences with a
/// common prefix can share one copy of it.
#[derive(Default)]
pub struct Packed {
    /// The input tokens `[N]`.
    pub tokens: Vec<u32>,
    /// The position of each token in its sequence `[N]`.
    pub positions: Vec<u32>,
    /// The spans of attention in which every token is a query and a key.
    pub spans: Vec<Span>,
    /// The indices of the tokens whose next token is predicted, the needed rows `[M]`.
    pub rows: Vec<u32>,
    /// The position of each needed row in its sequence `[M]`.
    pub row_positions: Vec<u32>,
    /// The spans of attention in which the needed rows are the queries and every token is a key; one per sequence.
    pub row_spans: Vec<Span>,
    /// The token that each needed row should predict `[M]`.
    pub targets: Vec<u32>,
    /// The weight of each row's negative log-probability in the loss `[M]`.
    pub weights: Vec<f32>,
    /// The weight of each row's entropy `[M]`.
    pub entropy_weights: Vec<f32>,
    /// The grammar mask and temperature of each row's distribution `[M]`.
    pub processors: Vec<LogitsProcessor>,
    /// The index in the batch of the sequence of each row span.
    pub sequences: Vec<usize>,
    /// The number of earlier positions whose keys and values are cached; 0 except when a decoder extends a sequence.
    pub past: usize,
}

impl Packed {
    /// Removes all sequences and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
        self.rows.clear();
        self.row_positions.clear();
        self.row_spans.clear();
        self.targets.clear();
        self.weights.clear();
        self.entropy_weights.clear();
        self.processors.clear();
        self.sequences.clear();
        self.past = 0;
    }

    /// Replaces the content by the tokens of one sequence after its first `past` tokens, which are cached. Only the prediction after the last
    /// token is needed.
    pub(super) fn set_continuation(&mut self, past: usize, tokens: &[u32]) {
        self.clear();
        let (count, total) = (tokens.len(), past + tokens.len());
        self.past = past;
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(past as u32..total as u32);
        self.spans.push(Span { queries: 0..count, prefix: 0..0, keys: 0..total });
        self.rows.push(count as u32 - 1);
        self.row_positions.push(total as u32 - 1);
        self.row_spans.push(Span { queries: 0..1, prefix: 0..0, keys: 0..total });
    }

    /// Adds the sequence with the index `index` in its batch.
    pub fn push(&mut self, index: usize, sequence: &Sequence) {
        self.push_after(index, sequence, 0..0);
    }

    /// Adds sequences, given with their indices in the batch, whose first `shared` tokens are the same and are not trained; those tokens are
    /// computed once for all of them.
    pub fn push_group(&mut self, group: &[(usize, &Sequence)], shared: usize) {
        let Some((_, first)) = group.first() else { return };
        let prefix = self.tokens.len()..self.tokens.len() + shared;
        self.tokens.extend_from_slice(&first.tokens[..shared]);
        self.positions.extend(0..shared as u32);
        self.spans.push(Span { queries: prefix.clone(), prefix: 0..0, keys: prefix.clone() });
        for (index, sequence) in group {
            self.push_after(*index, sequence, prefix.clone());
        }
    }

    /// Adds the tokens of a sequence that follow `prefix`, the rows of its shared beginning; an empty prefix adds all tokens.
    fn push_after(&mut self, index: usize, sequence: &Sequence, prefix: Range<usize>) {
        let (inputs, shared) = (input_len(sequence), prefix.len());
        if inputs == 0 {
            return;
        }
        let (start, first_row) = (self.tokens.len(), self.rows.len());
        self.tokens.extend_from_slice(&sequence.tokens[shared.min(inputs)..inputs]);
        self.positions.extend(shared as u32..inputs as u32);
        for position in shared.saturating_sub(1)..inputs {
            if sequence.needs(position + 1) {
                let row = if position < shared { prefix.start + position } else { start + position - shared };
                self.rows.push(row as u32);
                self.row_positions.push(position as u32);
                self.targets.push(sequence.tokens[position + 1]);
                self.weights.push(sequence.weights[position + 1]);
                self.entropy_weights.push(sequence.entropy_weight(position + 1));
                self.processors.push(sequence.logits_processor(position + 1));
            }
        }
        let keys = start..self.tokens.len();
        self.spans.push(Span { queries: keys.clone(), prefix: prefix.clone(), keys: keys.clone() });
        self.row_spans.push(Span { queries: first_row..self.rows.len(), prefix, keys });
        self.sequences.push(index);
    }
}

/// Returns the number of a sequence's tokens that the model must compute: those before the last needed prediction.
pub(crate) fn input_len(sequence: &Sequence) -> usize {
    (0..sequence.tokens.len()).rfind(|at| sequence.needs(*at)).unwrap_or(0)
}

/// Returns the length of the longest common prefix of two sequences in which neither trains a token.
pub(crate) fn shared_len(a: &Sequence, b: &Sequence) -> usize {
    let same = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b).count();
    let untrained = |s: &Sequence| (1..s.tokens.len()).find(|at| s.needs(*at)).unwrap_or(s.tokens.len());
    same.min(untrained(a)).min(untrained(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_its_beginning() {
        let sequence = |end: &[u32]| {
            let tokens = [&[1, 2, 3][..], end].concat();
            Sequence { weights: (0..tokens.len()).map(|at| f32::from(u8::from(at > 2))).collect(), tokens, ..Default::default() }
        };
        let (a, b) = (sequence(&[4, 5]), sequence(&[6, 7, 8]));
        assert_eq!(shared_len(&a, &b), 3);
        let mut packed = Packed::default();
        packed.push_group(&[(0, &a), (1, &b)], 3);
        assert_eq!(packed.tokens, [1, 2, 3, 4, 6, 7]);
        assert_eq!(packed.positions, [0, 1, 2, 3, 3, 4]);
        assert_eq!(packed.rows, [2, 3, 2, 4, 5]);
        assert_eq!(packed.targets, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn only_needed_rows_and_the_tokens_before_them_are_packed() {
        let mut packed = Packed::default();
        packed.push(0, &Sequence { tokens: vec![5, 6, 7], weights: vec![0.0; 3], ..Default::default() });
        packed.push(1, &Sequence { tokens: vec![1, 2, 3, 4], weights: vec![9.0, 0.0, 0.5, 0.0], ..Default::default() });
        packed.push(2, &Sequence { tokens: vec![8, 9], weights: vec![0.0, 1.0], ..Default::default() });
        assert_eq!(packed.tokens, [1, 2, 8]);
        assert_eq!(packed.positions, [0, 1, 0]);
        assert_eq!((packed.rows, packed.targets), (vec![1, 2], vec![3, 9]));
        assert_eq!(packed.weights, [0.5, 1.0]);
        assert_eq!(packed.sequences, [1, 2]);
        assert_eq!((packed.row_spans[1].queries.clone(), packed.row_spans[1].keys.clone()), (1..2, 2..3));
    }
}
