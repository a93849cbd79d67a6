//! Token masks, and the definition of the policy's distribution.

/// The set of allowed tokens of the vocabulary: one bit per token, 32 bits per word. Tokens beyond its length are not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitMask {
    words: Vec<u32>,
    len: usize,
}

impl BitMask {
    /// Creates a mask of `len` tokens in which no token is allowed.
    pub fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(32)], len }
    }

    /// Creates a mask of `len` tokens in which all are allowed.
    pub fn all(len: usize) -> Self {
        let mut mask = Self { words: vec![u32::MAX; len.div_ceil(32)], len };
        mask.trim();
        mask
    }

    /// Returns the mask's words: bit `i % 32` of word `i / 32` is token `i`.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Replaces the mask by words as llguidance makes them (bit `i % 32` of word `i / 32`).
    pub(crate) fn set_words(&mut self, words: &[u32], len: usize) {
        self.words.clear();
        self.words.extend_from_slice(&words[..len.div_ceil(32).min(words.len())]);
        self.words.resize(len.div_ceil(32), 0);
        self.len = len;
        self.trim();
    }

    /// Clears the bits beyond the mask's length.
    fn trim(&mut self) {
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.len % 32) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Returns the number of tokens, allowed or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the mask has a length of 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether a token is allowed.
    pub fn get(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Allows or forbids a token.
    pub fn set(&mut self, token: u32, allowed: bool) {
        if (token as usize) < self.len {
            let (word, bit) = (token as usize / 32, 1 << (token % 32));
            if allowed { self.words[word] |= bit } else { self.words[word] &= !bit }
        }
    }

    /// Counts the allowed tokens.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the allowed tokens in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)))
                .take_while(|word| *word != 0)
                .map(move |word| index as u32 * 32 + word.trailing_zeros())
        })
    }
}

/// Returns the temperature of the recorded distribution: greedy sampling (0) records the distribution at temperature 1.
fn recorded_temperature(temperature: f32) -> f32 {
    if temperature > 0.0 { temperature } else { 1.0 }
}

/// Computes the log-probabilities in nats of `softmax(logits / temperature)` over the allowed tokens; they are `-inf` for all others.
///
/// This is **the policy**: the sampler records it and the learner differentiates it. `logits` has one entry per row of the
/// output layer; without a mask all tokens are allowed. Temperature 0 (greedy) is read as 1.
pub fn log_softmax_masked(logits: &[f32], mask: Option<&BitMask>, temperature: f32) -> Vec<f32> {
    let mut out = vec![0.0; logits.len()];
    log_softmax_masked_into(logits, mask, temperature, &mut out);
    out
}

/// Computes [`log_softmax_masked`] into a buffer of the same length as the logits.
pub fn log_softmax_masked_into(logits: &[f32], mask: Option<&BitMask>, temperature: f32, out: &mut [f32]) {
    let inverse = recorded_temperature(temperature).recip();
    for (index, (out, logit)) in out.iter_mut().zip(logits).enumerate() {
        let allowed = mask.is_none_or(|mask| mask.get(index as u32));
        *out = if allowed { logit * inverse } else { f32::NEG_INFINITY };
    }
    let log_sum = log_sum_exp(out.iter().copied());
    for value in out.iter_mut() {
        *value -= log_sum;
    }
}

/// Computes the log-probability of one token under [`log_softmax_masked`].
pub fn masked_logprob(logits: &[f32], mask: Option<&BitMask>, temperature: f32, token: u32) -> f32 {
    let inverse = recorded_temperature(temperature).recip();
    if mask.is_some_and(|mask| !mask.get(token)) {
        return f32::NEG_INFINITY;
    }
    let Some(logit) = logits.get(token as usize) else { return f32::NEG_INFINITY };
    let log_sum = match mask {
        None => log_sum_exp(logits.iter().map(|logit| logit * inverse)),
        Some(mask) => log_sum_exp(mask.ids().filter_map(|id| logits.get(id as usize)).map(|logit| logit * inverse)),
    };
    logit * inverse - log_sum
}

/// Computes `ln Σ exp(x)`. It sums in f64, because an f32 sum over a large vocabulary would lose the fourth digit.
fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let max = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return max;
    }
    let sum: f64 = values.map(|value| f64::from(value - max).exp()).sum();
    (f64::from(max) + sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_the_tokens_that_were_set() {
        let mut mask = BitMask::none(70);
        for token in [0, 31, 32, 69] {
            mask.set(token, true);
        }
        mask.set(70, true);
        assert_eq!(mask.ids().collect::<Vec<_>>(), [0, 31, 32, 69]);
        assert_eq!((mask.count(), mask.get(69), mask.get(70), BitMask::all(70).count()), (4, true, false, 70));
    }

    /// The figures are those of scipy.special.log_softmax([1, 2, 3, 4] / 0.5) over tokens 0, 1 and 3.
    #[test]
    fn the_policy_is_the_masked_tempered_softmax() {
        let mut mask = BitMask::all(4);
        mask.set(2, false);
        let logprobs = log_softmax_masked(&[1.0, 2.0, 3.0, 4.0], Some(&mask), 0.5);
        for (got, want) in logprobs.iter().zip([-6.020_581, -4.020_581, f32::NEG_INFINITY, -0.020_581_14]) {
            assert!(got == &want || (got - want).abs() < 1e-5, "{logprobs:?}");
        }
        for token in 0..4 {
            let one = masked_logprob(&[1.0, 2.0, 3.0, 4.0], Some(&mask), 0.5, token);
            assert!(one == logprobs[token as usize] || (one - logprobs[token as usize]).abs() < 1e-6);
        }
        assert_eq!(log_softmax_masked(&[1.0, 2.0], None, 0.0), log_softmax_masked(&[1.0, 2.0], None, 1.0));
    }
}
