//! The model read token by token: keys and values of what was read stay, so that each further token is one row of work.

use super::layer::Cache;
use super::{Model, Packed, Workspace};
use crate::ops::linear::{self, Dims};
use crate::ops::{fit, matmul::Write};

/// Tokens that are read at once. A sequence is cut at multiples of it, and only whole blocks are read on from: products of other heights
/// differ in their last bits, and logits must not depend on what was read before.
const BLOCK: usize = 64;

/// What reading needs beside the sequences: one for each thread that reads.
#[derive(Default)]
pub struct Desk {
    packed: Packed,
    workspace: Workspace,
    logits: Vec<f32>,
}

/// One sequence in the course of being read. It belongs to one model: another one's keys would be read as its own.
#[derive(Default)]
pub struct Decoder {
    tokens: Vec<u32>,
    caches: Vec<Cache>,
}

impl Decoder {
    /// How many first tokens of a sequence have been read already.
    pub fn shared(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(read, token)| read == token).count()
    }

    /// Forgets all but the first tokens: those that were pushed must be forgotten before another sequence is read.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
    }

    /// Reads a whole sequence, of which what was read before is not computed again; gives the logits of its next token `[V]`.
    ///
    /// # Panics
    /// An empty sequence, or one longer than [`Model::max_tokens`].
    pub fn read<'a>(&mut self, model: &Model, tokens: &[u32], desk: &'a mut Desk) -> &'a [f32] {
        assert!(!tokens.is_empty() && tokens.len() <= model.max_tokens(), "{} tokens, at most {}", tokens.len(), model.max_tokens());
        // The last token is always computed: its logits are what is asked for.
        let past = self.shared(tokens).min(tokens.len() - 1) / BLOCK * BLOCK;
        self.tokens.truncate(past);
        let last = (tokens.len() - 1) / BLOCK * BLOCK;
        for start in (past..last).step_by(BLOCK) {
            self.go_on(model, &tokens[start..start + BLOCK], desk);
        }
        self.go_on(model, &tokens[last..], desk)
    }

    /// Reads one more token; gives the logits of the next `[V]`.
    ///
    /// # Panics
    /// A sequence that would be longer than [`Model::max_tokens`].
    pub fn push<'a>(&mut self, model: &Model, token: u32, desk: &'a mut Desk) -> &'a [f32] {
        assert!(self.tokens.len() < model.max_tokens(), "at most {} tokens", model.max_tokens());
        self.go_on(model, &[token], desk)
    }

    fn go_on<'a>(&mut self, model: &Model, tokens: &[u32], desk: &'a mut Desk) -> &'a [f32] {
        self.caches.resize_with(model.config.num_hidden_layers, Cache::default);
        desk.packed.read_on(self.tokens.len(), tokens);
        self.tokens.extend_from_slice(tokens);
        model.read_on(&desk.packed, &mut desk.workspace, &mut self.caches);
        let width = model.config.hidden_size;
        let table = &model.params.data[model.params.layout.head.clone()];
        let outputs = table.len() / width;
        let dims = Dims { rows: 1, inputs: width, outputs, precision: model.precision };
        let logits = fit(&mut desk.logits, outputs);
        linear::forward(logits, &desk.workspace.normed[..width], table, dims, Write::Set);
        logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;
    use crate::ops::matmul::Precision;

    /// The same sequence read at once, in two parts after another one's beginning, and token by token.
    #[test]
    fn however_a_sequence_is_read_its_logits_are_the_same() {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, ..ModelConfig::seed(32, 0, 1) };
        let mut model = Model::random(shape, 7).unwrap();
        model.precision = Precision::F32;
        let tokens: Vec<u32> = (0..190).map(|at| at * 7 % 23).collect();
        let desk = &mut Desk::default();
        let mut whole = Decoder::default();
        let at_once = whole.read(&model, &tokens, desk).to_vec();
        let mut parts = Decoder::default();
        parts.read(&model, &[&tokens[..150], &[1, 2, 3]].concat(), desk);
        assert_eq!(parts.shared(&tokens), 150);
        assert_eq!(parts.read(&model, &tokens, desk), at_once, "bit for bit");
        assert_eq!(parts.read(&model, &tokens, desk), at_once, "with all of it read before");
        let mut slow = Decoder::default();
        slow.read(&model, &tokens[..1], desk);
        let mut last = Vec::new();
        for token in &tokens[1..] {
            last = slow.push(&model, *token, desk).to_vec();
        }
        let far = last.iter().zip(&at_once).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{far}");
        slow.truncate(40);
        assert_eq!(slow.shared(&tokens), 40);
    }
}
