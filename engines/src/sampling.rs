//! Sampling, the same for every backend: grammar mask, then temperature, then seeded Gumbel noise, then the record of the token.

use milepost_text::{BitMask, GrammarMask, masked_logprob};

/// The constraints of one completion.
#[derive(Clone)]
pub(crate) struct Sampling {
    /// The grammar's parser at its beginning, if the completion has a grammar.
    pub(crate) grammar: Option<GrammarMask>,
    /// The sampling temperature; 0 is greedy.
    pub(crate) temperature: f32,
    /// The seed of the Gumbel noise.
    pub(crate) seed: u64,
    /// The maximum number of tokens, the end token included.
    pub(crate) max_tokens: usize,
    /// The tokens that end a free completion; under a grammar only the first ends it.
    pub(crate) end_ids: Vec<u32>,
}

/// The tokens of a completion as they were sampled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampled {
    /// The token ids.
    pub(crate) ids: Vec<u32>,
    /// The log-probability of each token under the masked, tempered distribution; nats.
    pub(crate) logprobs: Vec<f32>,
    /// The log-probability of each token without the grammar mask; nats.
    pub(crate) free_logprobs: Vec<f32>,
    /// The index of the first forced token, if the completion ran out of budget and had to be brought to a sentence's end.
    pub(crate) forced_from: Option<usize>,
    /// Whether the completion is complete.
    pub(crate) finished: bool,
}

/// How many tokens before the end of its budget an unfinished completion is forced to the end of a sentence.
const FORCED_TOKENS: usize = 64;

/// A completion while it is being sampled.
pub(crate) struct Completion {
    sampling: Sampling,
    /// The tokens sampled so far.
    pub(crate) sampled: Sampled,
    mask: BitMask,
    /// The forced tokens that are still to come, in reverse order.
    forced: Vec<u32>,
}

impl Completion {
    /// Starts a completion.
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self { sampling, sampled: Sampled::default(), mask: BitMask::default(), forced: Vec::new() }
    }

    /// Chooses, records and returns the next token.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<u32, String> {
        let position = self.sampled.ids.len();
        if let Some(grammar) = &mut self.sampling.grammar {
            grammar.allowed(&mut self.mask).map_err(|error| error.to_string())?;
        }
        self.force_end(position)?;
        let mask = self.sampling.grammar.as_ref().map(|_| &self.mask);
        let Sampling { temperature, seed, .. } = self.sampling;
        let token = match self.forced.pop() {
            Some(token) => token,
            None => choose(logits, mask, temperature, seed, position as u64)
                .ok_or("the model's logits are not numbers; the weights are broken")?,
        };
        self.sampled.logprobs.push(masked_logprob(logits, mask, temperature, token));
        self.sampled.free_logprobs.push(masked_logprob(logits, None, temperature, token));
        self.sampled.ids.push(token);
        let ends = match &mut self.sampling.grammar {
            Some(grammar) => {
                grammar.advance(token).map_err(|error| error.to_string())?;
                Some(&token) == self.sampling.end_ids.first()
            }
            None => self.sampling.end_ids.contains(&token),
        };
        self.sampled.finished = ends || position + 1 >= self.sampling.max_tokens;
        Ok(token)
    }

    /// Near the end of its budget, plans the tokens that bring an unfinished completion to the end of a sentence of its grammar. They are
    /// recorded with the log-probabilities that the policy gives them and belong to no role, so that no learner trains on tokens that the
    /// policy did not choose.
    fn force_end(&mut self, position: usize) -> Result<(), String> {
        let Sampling { grammar: Some(grammar), max_tokens, seed, .. } = &self.sampling else { return Ok(()) };
        let reserve = FORCED_TOKENS.min(max_tokens / 2).max(1);
        if position + reserve != *max_tokens || !self.forced.is_empty() {
            return Ok(());
        }
        let path = grammar.forced_completion(reserve, *seed);
        self.forced =
            path.ok_or_else(|| format!("no sentence of the grammar ends within {max_tokens} tokens; raise the call's max_tokens"))?;
        self.forced.reverse();
        self.sampled.forced_from = Some(position);
        Ok(())
    }
}

/// Chooses the token with the largest `logit / T + Gumbel(seed, position, token)` among those allowed. This is an exact sample of the
/// tempered softmax (the Gumbel-max trick), and it does not depend on the order in which requests are served. Temperature 0 takes the
/// largest logit.
fn choose(logits: &[f32], mask: Option<&BitMask>, temperature: f32, seed: u64, position: u64) -> Option<u32> {
    let score = |token: u32| {
        let logit = f64::from(logits[token as usize]);
        if temperature > 0.0 { logit / f64::from(temperature) + gumbel(seed, position, token) } else { logit }
    };
    let better = |best: Option<(u32, f64)>, token: u32| {
        let score = score(token);
        if score > best.map_or(f64::NEG_INFINITY, |(_, score)| score) { Some((token, score)) } else { best }
    };
    let rows = logits.len() as u32;
    match mask {
        Some(mask) => mask.ids().filter(|token| *token < rows).fold(None, better),
        None => (0..rows).fold(None, better),
    }
    .map(|(token, _)| token)
}

/// Counter-based Gumbel noise: two rounds of SplitMix64's finaliser over seed, position and token.
fn gumbel(seed: u64, position: u64, token: u32) -> f64 {
    let key = mix(seed ^ mix(position.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D));
    let bits = mix(key ^ u64::from(token).wrapping_mul(0xD1B5_4A32_D192_ED03)) >> 11;
    let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    -(-uniform.ln()).ln()
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_runtime::Grammar;
    use milepost_text::{GrammarCompiler, TextModel, log_softmax_masked};

    /// The frequencies of 20,000 draws agree with the softmax, each within four standard errors.
    #[test]
    fn gumbel_draws_follow_the_tempered_softmax() {
        let logits = [0.0, 1.0, -1.0, 2.0, 0.5];
        let mut mask = BitMask::all(5);
        mask.set(4, false);
        let mut counts = [0_u32; 5];
        let draws = 20_000;
        for seed in 0..draws {
            let token = choose(&logits, Some(&mask), 0.7, seed, seed % 7);
            counts[token.map_or(4, |token| token as usize)] += 1;
        }
        for (count, logprob) in counts.iter().zip(log_softmax_masked(&logits, Some(&mask), 0.7)) {
            let p = f64::from(logprob.exp());
            let error = 4.0 * (p * (1.0 - p) * draws as f64).sqrt();
            assert!((f64::from(*count) - p * draws as f64).abs() <= error, "{counts:?}");
        }
    }

    #[test]
    fn a_completion_that_runs_out_of_tokens_ends_in_forced_ones() {
        let text = TextModel::load(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/seed"))).unwrap();
        let (compiler, rows) = (GrammarCompiler::new(&text).unwrap(), text.tokenizer.vocab_size());
        let sample = |grammar: &str| {
            let grammar = Some(compiler.matcher(&Grammar(grammar.into())).unwrap());
            let sampling = Sampling { grammar, temperature: 1.0, seed: 3, max_tokens: 40, end_ids: text.eos_ids.clone() };
            let mut completion = Completion::new(sampling);
            while !completion.sampled.finished {
                completion.next(&vec![0.0; rows]).unwrap();
            }
            completion.sampled
        };
        // The full stop is one token of thousands, so it is not drawn by chance.
        let long = sample("start: /[a-z ]{1,400}/ \".\"");
        assert_eq!(long.forced_from, Some(20));
        assert!(long.ids.len() <= 40 && text.decode(&long.ids).ends_with('.'), "{:?}", text.decode(&long.ids));
        assert_eq!(sample("start: \"keep\"").forced_from, None);
    }

    #[test]
    fn greedy_takes_the_largest_allowed_logit() {
        let mut mask = BitMask::all(3);
        assert_eq!(choose(&[1.0, 3.0, 2.0], Some(&mask), 0.0, 9, 0), Some(1));
        mask.set(1, false);
        assert_eq!(choose(&[1.0, 3.0, 2.0], Some(&mask), 0.0, 9, 0), Some(2));
        assert_eq!(choose(&[f32::NAN; 3], None, 0.0, 9, 0), None);
    }
}
