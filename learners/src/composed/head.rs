//! The last norm and the output head, in chunks of rows.

use std::ops::Range;

use candle_core::{D, Result, Tensor, Var};

use super::gradients::{self, DeviceGradients};
use super::layer::Context;
use super::operations::{MASKED, rms_norm};
use super::product;
use crate::model::Packed;
use crate::ops::head::{Exact, LogitsProcessor, Score};

/// The number of rows whose logits exist at the same time.
const CHUNK: usize = 256;

/// The scores of a chunk of rows, as tensors `[rows]`.
pub(super) struct ChunkScores {
    pub logprobs: Tensor,
    pub entropies: Tensor,
    /// The target's logit minus the largest logit of the row.
    below_largest: Tensor,
}

/// Scores every row of the last layer's output `[M, C]`.
pub(super) fn score(ctx: &Context<'_>, x: &Tensor, packed: &Packed) -> Result<Vec<Score>> {
    let scores = chunks(packed).map(|rows| chunk(ctx, &x.narrow(0, rows.start, rows.len())?, packed, rows)?.scores());
    Ok(scores.collect::<Result<Vec<_>>>()?.concat())
}

/// Scores every row of the last layer's output `[M, C]` and returns the gradient of `x` with the scores. The gradients of the head and the last
/// norm are added to `device_gradients`, if they are trained.
pub(super) fn cross_entropy(
    ctx: &Context<'_>,
    x: &Tensor,
    packed: &Packed,
    device_gradients: &mut DeviceGradients,
) -> Result<(Vec<Score>, Tensor)> {
    let (mut scores, mut dx) = (Vec::new(), Vec::new());
    for rows in chunks(packed) {
        let x = Var::from_tensor(&x.narrow(0, rows.start, rows.len())?)?.into_inner();
        let chunk_scores = chunk(ctx, &x, packed, rows.clone())?;
        let negative_weighted_sum =
            |x: &Tensor, weights: &[f32]| (x * Tensor::from_slice(weights, weights.len(), x.device())?)?.sum_all()?.neg();
        let mut loss = negative_weighted_sum(&chunk_scores.logprobs, &packed.weights[rows.clone()])?;
        let bonuses = &packed.entropy_weights[rows];
        if bonuses.iter().any(|bonus| *bonus != 0.0) {
            loss = (loss + negative_weighted_sum(&chunk_scores.entropies, bonuses)?)?;
        }
        let mut store = loss.backward()?;
        device_gradients.take(&ctx.weights.trained_end, &mut store)?;
        dx.push(gradients::gradient(&mut store, &x)?.detach());
        scores.extend(chunk_scores.scores()?);
    }
    Ok((scores, Tensor::cat(&dx, 0)?))
}

/// Returns the row ranges of the chunks.
fn chunks(packed: &Packed) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = packed.rows.len();
    (0..rows).step_by(CHUNK).map(move |first| first..(first + CHUNK).min(rows))
}

/// Scores the rows `rows`, whose part of the last layer's output is `x`.
fn chunk(ctx: &Context<'_>, x: &Tensor, packed: &Packed, rows: Range<usize>) -> Result<ChunkScores> {
    let normed = rms_norm(x, &ctx.weights.final_norm, ctx.config.rms_norm_eps)?;
    let logits = product::linear(&normed, &ctx.weights.head, ctx.dtype)?;
    score_logits(&logits, &packed.targets[rows.clone()], &packed.processors[rows])
}

/// Scores the target of each row of logits `[rows, V]`.
pub(super) fn score_logits(logits: &Tensor, targets: &[u32], processors: &[LogitsProcessor]) -> Result<ChunkScores> {
    let logits = process(logits, processors)?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let exp = shifted.exp()?;
    let total = exp.sum_keepdim(D::Minus1)?;
    let normaliser = total.log()?.squeeze(1)?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let below_largest = shifted.gather(&targets, 1)?.squeeze(1)?;
    let mean = (&exp * &shifted)?.sum_keepdim(D::Minus1)?.div(&total)?.squeeze(1)?;
    Ok(ChunkScores { logprobs: (&below_largest - &normaliser)?, entropies: (normaliser - mean)?, below_largest })
}

/// Divides each row by its temperature, and masks the tokens that its grammar does not allow.
fn process(logits: &Tensor, processors: &[LogitsProcessor]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    let mut logits = logits.clone();
    if processors.iter().any(|processor| processor.temperature != 1.0) {
        let factors: Vec<f32> = processors.iter().map(|processor| 1.0 / processor.temperature).collect();
        logits = logits.broadcast_mul(&Tensor::from_vec(factors, (rows, 1), logits.device())?)?;
    }
    if processors.iter().any(|processor| processor.allowed.is_some()) {
        let allowed: Vec<u8> =
            processors.iter().flat_map(|processor| (0..vocabulary as u32).map(|token| u8::from(processor.allows(token)))).collect();
        let allowed = Tensor::from_vec(allowed, (rows, vocabulary), logits.device())?;
        let masked = Tensor::full(MASKED, (rows, vocabulary), logits.device())?;
        logits = allowed.where_cond(&logits, &masked)?;
    }
    Ok(logits)
}

impl ChunkScores {
    /// Copies the scores from the device.
    pub(super) fn scores(&self) -> Result<Vec<Score>> {
        let rows = Tensor::stack(&[&self.logprobs, &self.entropies, &self.below_largest], 1)?.detach().to_vec2::<f32>()?;
        let score = |row: Vec<f32>| {
            let exact = if row[2] >= 0.0 { Exact::Yes } else { Exact::No };
            Score { logprob: row[0], entropy: row[1], exact }
        };
        Ok(rows.into_iter().map(score).collect())
    }
}
