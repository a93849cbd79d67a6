//! The output head with cross-entropy. It computes only the needed rows, in chunks, so that the logits of all rows never exist at the same time.

use std::sync::Arc;

use super::fit;
use super::linear::{self, Dims};
use super::matmul::{Precision, Write};
use super::vector::{exp_sums_in_place, max, scale};

/// The number of rows whose logits exist at the same time.
const CHUNK: usize = 256;

/// The inputs of the head.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The normalised hidden states `[M, C]`.
    pub x: &'a [f32],
    /// The output matrix `[V, C]`.
    pub table: &'a [f32],
    /// The token that each row should predict `[M]`.
    pub targets: &'a [u32],
    /// The grammar mask and temperature of each row `[M]`; empty if no row has any.
    pub processors: &'a [LogitsProcessor],
    /// The width `C`.
    pub width: usize,
    /// The precision of matrix products.
    pub precision: Precision,
}

/// The grammar mask and temperature that are applied to a row of logits before the softmax; with them the model's distribution becomes the
/// policy's.
#[derive(Clone, Debug)]
pub struct LogitsProcessor {
    /// The allowed tokens, one bit each, lowest bit first; `None` allows all tokens.
    pub allowed: Option<Arc<[u32]>>,
    /// The temperature, which divides the logits.
    pub temperature: f32,
}

impl Default for LogitsProcessor {
    fn default() -> Self {
        Self { allowed: None, temperature: 1.0 }
    }
}

impl LogitsProcessor {
    /// Returns whether a token is allowed.
    pub fn allows(&self, token: u32) -> bool {
        self.allowed.as_ref().is_none_or(|words| words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1))
    }

    /// Divides the logits by the temperature and sets those of tokens that are not allowed to a very low number.
    fn apply(&self, logits: &mut [f32]) {
        if self.temperature != 1.0 {
            scale(logits, 1.0 / self.temperature);
        }
        if self.allowed.is_some() {
            let refused = logits.iter_mut().enumerate().filter(|(token, _)| !self.allows(*token as u32));
            refused.for_each(|(_, logit)| *logit = f32::MIN / 2.0);
        }
    }
}

/// The score of a row's target token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The log-probability of the target token.
    pub logprob: f32,
    /// The entropy of the row's distribution, in nats.
    pub entropy: f32,
    /// Whether the target has the highest logit.
    pub exact: Exact,
}

/// Whether the target token is the most likely one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// No other token is more likely.
    Yes,
    /// Another token is more likely.
    No,
}

/// The weights of each row in the loss.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The weights of `-logprob` `[M]`.
    pub logprobs: &'a [f32],
    /// The weights of `-entropy` `[M]`; empty if the entropy does not count.
    pub entropies: &'a [f32],
}

/// The gradients that [`cross_entropy`] computes.
pub struct Gradients<'a> {
    /// The gradient of the hidden states `[M, C]`, which is overwritten.
    pub dx: &'a mut [f32],
    /// The gradient of the output matrix `[V, C]`, which is added to; `None` if the matrix is frozen.
    pub dtable: Option<&'a mut [f32]>,
}

/// Scores every row without computing gradients; `logits` is a buffer.
pub fn score(logits: &mut Vec<f32>, inputs: Inputs<'_>, scores: &mut Vec<Score>) {
    score_chunks(logits, inputs, scores, |_, _, _, _, _| {});
}

/// Scores every row and computes the gradients of `Σ_m (logprobs[m] * -logprob[m] + entropies[m] * -entropy[m])`, where `logprobs` and
/// `entropies` are the fields of `weights`; `logits` is a buffer.
pub fn cross_entropy(logits: &mut Vec<f32>, inputs: Inputs<'_>, weights: Weights<'_>, scores: &mut Vec<Score>, gradients: Gradients<'_>) {
    let Inputs { x, table, width, targets, precision, processors } = inputs;
    let vocabulary = table.len() / width;
    let Gradients { dx, mut dtable } = gradients;
    score_chunks(logits, inputs, scores, |first, rows, probabilities, sums, scores| {
        for (i, row) in probabilities.chunks_exact_mut(vocabulary).enumerate() {
            let weight = weights.logprobs[first + i];
            match weights.entropies.get(first + i) {
                Some(&bonus) if bonus != 0.0 => logit_gradient_with_entropy(row, sums[i], scores[first + i].entropy, weight, bonus),
                _ => scale(row, weight / sums[i]),
            }
            row[targets[first + i] as usize] -= weight;
            let temperature = processors.get(first + i).map_or(1.0, |processor| processor.temperature);
            if temperature != 1.0 {
                scale(row, 1.0 / temperature);
            }
        }
        let dims = Dims { rows, inputs: width, outputs: vocabulary, precision };
        let columns = first * width..(first + rows) * width;
        linear::backward_input(&mut dx[columns.clone()], probabilities, table, dims, Write::Set);
        if let Some(dtable) = dtable.as_deref_mut() {
            linear::backward_weight(dtable, probabilities, &x[columns], dims);
        }
    });
}

/// Replaces `sum p_i` by `weight p_i + bonus p_i (ln p_i + H)`: the derivative of the entropy `H` with respect to a logit is `-p_i (ln p_i + H)`.
fn logit_gradient_with_entropy(row: &mut [f32], sum: f32, entropy: f32, weight: f32, bonus: f32) {
    // A less likely token, such as one that is not allowed, adds nothing to the entropy.
    const LEAST: f32 = 1e-30;
    for p in row {
        *p /= sum;
        *p = if *p > LEAST { *p * (weight + bonus * (p.ln() + entropy)) } else { 0.0 };
    }
}

/// Scores the rows chunk by chunk, and calls `then` for each chunk with `(first row, rows, exp(logit - max), their sum in each row, scores so far)`.
fn score_chunks(
    logits: &mut Vec<f32>,
    inputs: Inputs<'_>,
    scores: &mut Vec<Score>,
    mut then: impl FnMut(usize, usize, &mut [f32], &[f32], &[Score]),
) {
    let Inputs { x, table, targets, width, precision, processors } = inputs;
    let vocabulary = table.len() / width;
    scores.clear();
    for first in (0..targets.len()).step_by(CHUNK) {
        let rows = CHUNK.min(targets.len() - first);
        let logits = fit(logits, rows * vocabulary);
        let dims = Dims { rows, inputs: width, outputs: vocabulary, precision };
        linear::forward(logits, &x[first * width..(first + rows) * width], table, dims, Write::Set);
        let mut sums = [0.0; CHUNK];
        for (i, row) in logits.chunks_exact_mut(vocabulary).enumerate() {
            if let Some(processor) = processors.get(first + i) {
                processor.apply(row);
            }
            let (top, own) = (max(row), row[targets[first + i] as usize]);
            let of_row = exp_sums_in_place(row, top);
            sums[i] = of_row.total;
            let normaliser = of_row.total.ln();
            let exact = if own >= top { Exact::Yes } else { Exact::No };
            scores.push(Score { logprob: own - top - normaliser, entropy: normaliser - of_row.weighted / of_row.total, exact });
        }
        then(first, rows, logits, &sums, scores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (x, table, weights) = (random(3 * 5, 1), random(7 * 5, 2), [1.0, 0.01, 2.0]);
        let targets = [6, 0, 3];
        // The second row allows only the tokens 0, 1, 2 and 5 and has another temperature.
        let processors = [
            LogitsProcessor::default(),
            LogitsProcessor { allowed: Some([0b10_0111].into()), temperature: 0.7 },
            LogitsProcessor::default(),
        ];
        fn inputs<'a>(x: &'a [f32], table: &'a [f32], targets: &'a [u32], processors: &'a [LogitsProcessor]) -> Inputs<'a> {
            Inputs { x, table, targets, processors, width: 5, precision: Precision::F32 }
        }
        for bonus in [[0.0; 3], [0.5, 1.5, -0.8]] {
            let loss = |x: &[f32], table: &[f32]| {
                let mut scores = Vec::new();
                score(&mut Vec::new(), inputs(x, table, &targets, &processors), &mut scores);
                let of_row = |(m, s): (usize, &Score)| -f64::from(s.logprob * weights[m]) - f64::from(s.entropy * bonus[m]);
                scores.iter().enumerate().map(of_row).sum()
            };
            let (mut dx, mut dtable, mut scores) = (vec![0.0; 15], vec![0.0; 35], Vec::new());
            let gradients = Gradients { dx: &mut dx, dtable: Some(&mut dtable) };
            let weights = Weights { logprobs: &weights, entropies: &bonus };
            cross_entropy(&mut Vec::new(), inputs(&x, &table, &targets, &processors), weights, &mut scores, gradients);
            check_gradient("x", &x, &dx, |x| loss(x, &table));
            check_gradient("table", &table, &dtable, |table| loss(&x, table));
        }
    }

    #[test]
    fn the_entropy_is_that_of_the_allowed_tokens_at_the_temperature() {
        // The hidden state is 1 and has width 1, so the logits are the numbers of the table.
        let table: Vec<f32> = random(40, 5).iter().map(|x| 4.0 * x).collect();
        for (allowed, temperature) in [(u64::MAX, 1.0), (u64::MAX, 0.3), (0b1001_0110 << 20, 0.7), (1 << 33, 1.0)] {
            let processor = LogitsProcessor { allowed: Some([allowed as u32, (allowed >> 32) as u32].into()), temperature };
            let target = allowed.trailing_zeros();
            let inputs =
                Inputs { x: &[1.0], table: &table, targets: &[target], processors: &[processor], width: 1, precision: Precision::F32 };
            let mut scores = Vec::new();
            score(&mut Vec::new(), inputs, &mut scores);
            let kept: Vec<f64> =
                (0..40).filter(|i| allowed >> i & 1 == 1).map(|i| (f64::from(table[i]) / f64::from(temperature)).exp()).collect();
            let total: f64 = kept.iter().sum();
            let want: f64 = kept.iter().map(|e| -e / total * (e / total).ln()).sum();
            assert!((f64::from(scores[0].entropy) - want).abs() < 1e-5, "{allowed:x} {temperature}: {} {want}", scores[0].entropy);
        }
    }

    #[test]
    fn the_likeliest_token_is_exact() {
        let (x, table) = ([1.0, 0.0], [0.0, 0.0, 3.0, 0.0]);
        let mut scores = Vec::new();
        score(
            &mut Vec::new(),
            Inputs { x: &x, table: &table, targets: &[1], processors: &[], width: 2, precision: Precision::F32 },
            &mut scores,
        );
        assert_eq!(scores[0].exact, Exact::Yes);
        assert!((scores[0].logprob + (1.0f32 + (-3.0f32).exp()).ln()).abs() < 1e-5);
    }
}
