//! Sequences laid end to end, with the rows whose predictions are needed.

use std::ops::Range;

use crate::Sequence;
use crate::ops::attention::Span;
use crate::ops::head::Lens;

/// Sequences of one micro-batch, packed without padding.
///
/// A sequence's tokens behind its last needed prediction are left out, and so is a sequence that needs none. Sequences that begin
/// alike can share one copy of their beginning.
#[derive(Default)]
pub struct Packed {
    /// Input tokens `[N]`.
    pub tokens: Vec<u32>,
    /// Their positions in their sequences `[N]`.
    pub positions: Vec<u32>,
    /// Every token as query and as key.
    pub spans: Vec<Span>,
    /// Rows among the tokens whose next token is needed `[M]`.
    pub rows: Vec<u32>,
    /// Their positions in their sequences `[M]`.
    pub row_positions: Vec<u32>,
    /// The needed rows as queries, every token as key; one per sequence.
    pub row_spans: Vec<Span>,
    /// What the rows should predict `[M]`.
    pub targets: Vec<u32>,
    /// The weights of their losses `[M]`.
    pub weights: Vec<f32>,
    /// The weights of their entropies `[M]`.
    pub entropy_weights: Vec<f32>,
    /// What each row's distribution is narrowed to `[M]`.
    pub lenses: Vec<Lens>,
    /// Which sequence of the batch each span is.
    pub sequences: Vec<usize>,
    /// Rows of keys and values that an earlier pass has left before these tokens'; 0 but where a sequence is read on.
    pub past: usize,
}

impl Packed {
    /// Forgets the sequences and keeps the memory.
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
        self.lenses.clear();
        self.sequences.clear();
        self.past = 0;
    }

    /// The rest of one sequence, whose first `past` tokens have been read: only what follows the last token is needed.
    pub(crate) fn read_on(&mut self, past: usize, tokens: &[u32]) {
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

    /// Adds a sequence, which is number `index` of its batch.
    pub fn push(&mut self, index: usize, sequence: &Sequence) {
        self.push_after(index, sequence, 0..0);
    }

    /// Adds sequences whose first `shared` tokens are the same and are not trained: those go through the model once.
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

    /// Adds what follows a prefix that is there already.
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
                self.lenses.push(sequence.lens(position + 1));
            }
        }
        let keys = start..self.tokens.len();
        self.spans.push(Span { queries: keys.clone(), prefix: prefix.clone(), keys: keys.clone() });
        self.row_spans.push(Span { queries: first_row..self.rows.len(), prefix, keys });
        self.sequences.push(index);
    }
}

/// How many of a sequence's tokens have to go through the model.
pub(crate) fn input_len(sequence: &Sequence) -> usize {
    (0..sequence.tokens.len()).rfind(|at| sequence.needs(*at)).unwrap_or(0)
}

/// How many first tokens two sequences share without training any of them.
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
