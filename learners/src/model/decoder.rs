//! Incremental decoding: the keys and values of earlier tokens are cached, so that each further token costs the computation of one row.

use super::layer::KvCache;
use super::{Model, Packed, Workspace};
use crate::ops::linear::{self, Dims};
use crate::ops::{fit, matmul::Write};

/// The number of tokens that are computed at once. Sequences are cut into blocks at multiples of it, and only whole cached blocks are reused:
/// matrix products with other numbers of rows differ in their last bits, and logits must not depend on what was cached before.
const BLOCK: usize = 64;

/// Scratch buffers of decoding; each thread that decodes needs its own.
#[derive(Default)]
pub struct DecoderScratch {
    packed: Packed,
    workspace: Workspace,
    logits: Vec<f32>,
}

/// A sequence with the cached keys and values of its tokens. It must always be used with the same model, whose keys and values it holds.
#[derive(Default)]
pub struct Decoder {
    tokens: Vec<u32>,
    caches: Vec<KvCache>,
}

impl Decoder {
    /// Returns the length of the longest prefix of `tokens` that is cached.
    pub fn cached_prefix(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(read, token)| read == token).count()
    }

    /// Drops all but the first `tokens` tokens. Tokens that were pushed must be dropped before another sequence is read, since they were not
    /// computed in blocks.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
    }

    /// Reads a whole sequence and returns the logits of its next token `[V]`. Cached blocks of a common prefix are not computed again.
    ///
    /// # Panics
    /// The sequence is empty, or longer than [`Model::max_tokens`].
    pub fn read<'a>(&mut self, model: &Model, tokens: &[u32], scratch: &'a mut DecoderScratch) -> &'a [f32] {
        assert!(!tokens.is_empty() && tokens.len() <= model.max_tokens(), "{} tokens, at most {}", tokens.len(), model.max_tokens());
        // The last token is always computed, because its logits are returned.
        let past = self.cached_prefix(tokens).min(tokens.len() - 1) / BLOCK * BLOCK;
        self.tokens.truncate(past);
        let last = (tokens.len() - 1) / BLOCK * BLOCK;
        for start in (past..last).step_by(BLOCK) {
            self.extend(model, &tokens[start..start + BLOCK], scratch);
        }
        self.extend(model, &tokens[last..], scratch)
    }

    /// Reads one more token and returns the logits of the token after it `[V]`.
    ///
    /// # Panics
    /// The sequence would become longer than [`Model::max_tokens`].
    pub fn push<'a>(&mut self, model: &Model, token: u32, scratch: &'a mut DecoderScratch) -> &'a [f32] {
        assert!(self.tokens.len() < model.max_tokens(), "at most {} tokens", model.max_tokens());
        self.extend(model, &[token], scratch)
    }

    /// Computes further tokens of the sequence and returns the logits of the token after them `[V]`.
    fn extend<'a>(&mut self, model: &Model, tokens: &[u32], scratch: &'a mut DecoderScratch) -> &'a [f32] {
        self.caches.resize_with(model.config.num_hidden_layers, KvCache::default);
        scratch.packed.set_continuation(self.tokens.len(), tokens);
        self.tokens.extend_from_slice(tokens);
        model.extend_caches(&scratch.packed, &mut scratch.workspace, &mut self.caches);
        let width = model.config.hidden_size;
        let table = &model.params.data[model.params.layout.head.clone()];
        let outputs = table.len() / width;
        let dims = Dims { rows: 1, inputs: width, outputs, precision: model.precision };
        let logits = fit(&mut scratch.logits, outputs);
        linear::forward(logits, &scratch.workspace.normed[..width], table, dims, Write::Set);
        logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;
    use crate::ops::matmul::Precision;

    /// Reads one sequence at once, in two parts after the beginning of another sequence, and token by token.
    #[test]
    fn however_a_sequence_is_read_its_logits_are_the_same() {
        let shape = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, ..ModelConfig::seed(32, 0, 1) };
        let mut model = Model::random(shape, 7).unwrap();
        model.precision = Precision::F32;
        let tokens: Vec<u32> = (0..190).map(|at| at * 7 % 23).collect();
        let scratch = &mut DecoderScratch::default();
        let mut whole = Decoder::default();
        let at_once = whole.read(&model, &tokens, scratch).to_vec();
        let mut parts = Decoder::default();
        parts.read(&model, &[&tokens[..150], &[1, 2, 3]].concat(), scratch);
        assert_eq!(parts.cached_prefix(&tokens), 150);
        assert_eq!(parts.read(&model, &tokens, scratch), at_once, "bit for bit");
        assert_eq!(parts.read(&model, &tokens, scratch), at_once, "with all of it read before");
        let mut slow = Decoder::default();
        slow.read(&model, &tokens[..1], scratch);
        let mut last = Vec::new();
        for token in &tokens[1..] {
            last = slow.push(&model, *token, scratch).to_vec();
        }
        let far = last.iter().zip(&at_once).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{far}");
        slow.truncate(40);
        assert_eq!(slow.cached_prefix(&tokens), 40);
    }
}
