//! Sequences laid end to end, with the rows whose predictions are needed.

use crate::Sequence;
use crate::ops::attention::Span;

/// Sequences of one micro-batch, packed without padding.
///
/// A sequence's tokens behind its last needed prediction are left out, and so is a sequence that needs none.
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
    /// Which sequence of the batch each span is.
    pub sequences: Vec<usize>,
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
        self.sequences.clear();
    }

    /// Adds a sequence, which is number `index` of its batch.
    pub fn push(&mut self, index: usize, sequence: &Sequence) {
        let inputs = input_len(sequence);
        if inputs == 0 {
            return;
        }
        let (start, first_row) = (self.tokens.len(), self.rows.len());
        self.tokens.extend_from_slice(&sequence.tokens[..inputs]);
        self.positions.extend(0..inputs as u32);
        for position in 0..inputs {
            let weight = sequence.weights[position + 1];
            if weight != 0.0 {
                self.rows.push((start + position) as u32);
                self.row_positions.push(position as u32);
                self.targets.push(sequence.tokens[position + 1]);
                self.weights.push(weight);
            }
        }
        let keys = start..self.tokens.len();
        self.spans.push(Span { queries: keys.clone(), keys: keys.clone() });
        self.row_spans.push(Span { queries: first_row..self.rows.len(), keys });
        self.sequences.push(index);
    }
}

/// How many of a sequence's tokens have to go through the model.
pub(crate) fn input_len(sequence: &Sequence) -> usize {
    let needed = sequence.weights.iter().rposition(|w| *w != 0.0);
    needed.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_rows_and_the_tokens_before_them_are_packed() {
        let mut packed = Packed::default();
        packed.push(0, &Sequence { tokens: vec![5, 6, 7], weights: vec![0.0; 3] });
        packed.push(1, &Sequence { tokens: vec![1, 2, 3, 4], weights: vec![9.0, 0.0, 0.5, 0.0] });
        packed.push(2, &Sequence { tokens: vec![8, 9], weights: vec![0.0, 1.0] });
        assert_eq!(packed.tokens, [1, 2, 8]);
        assert_eq!(packed.positions, [0, 1, 0]);
        assert_eq!((packed.rows, packed.targets), (vec![1, 2], vec![3, 9]));
        assert_eq!(packed.weights, [0.5, 1.0]);
        assert_eq!(packed.sequences, [1, 2]);
        assert_eq!((packed.row_spans[1].queries.clone(), packed.row_spans[1].keys.clone()), (1..2, 2..3));
    }
}
