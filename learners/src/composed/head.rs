//! The last norm and the output head, in chunks of rows.

use std::ops::Range;

use candle_core::{D, Result, Tensor, Var};

use super::layer::Context;
use super::operations::{REFUSED, rms_norm};
use super::product;
use super::sums::{self, Sums};
use crate::model::Packed;
use crate::ops::head::{Exact, Lens, Score};

/// Rows whose logits exist at once.
const CHUNK: usize = 256;

/// What a chunk says; all `[rows]`.
pub(super) struct Chunk {
    pub logprobs: Tensor,
    pub entropies: Tensor,
    /// The target's logit, less the largest.
    behind: Tensor,
}

/// Scores every row of the last layer's output `[M, C]`.
pub(super) fn score(ctx: &Context<'_>, x: &Tensor, packed: &Packed) -> Result<Vec<Score>> {
    let scores = chunks(packed).map(|rows| chunk(ctx, &x.narrow(0, rows.start, rows.len())?, packed, rows)?.scores());
    Ok(scores.collect::<Result<Vec<_>>>()?.concat())
}

/// The same, with the gradient of `x`; those of what is trained are added to `sums`.
pub(super) fn cross_entropy(ctx: &Context<'_>, x: &Tensor, packed: &Packed, sums: &mut Sums) -> Result<(Vec<Score>, Tensor)> {
    let (mut scores, mut slopes) = (Vec::new(), Vec::new());
    for rows in chunks(packed) {
        let x = Var::from_tensor(&x.narrow(0, rows.start, rows.len())?)?.into_inner();
        let said = chunk(ctx, &x, packed, rows.clone())?;
        let weighed = |x: &Tensor, weights: &[f32]| (x * Tensor::from_slice(weights, weights.len(), x.device())?)?.sum_all()?.neg();
        let mut loss = weighed(&said.logprobs, &packed.weights[rows.clone()])?;
        let bonuses = &packed.entropy_weights[rows];
        if bonuses.iter().any(|bonus| *bonus != 0.0) {
            loss = (loss + weighed(&said.entropies, bonuses)?)?;
        }
        let mut gradients = loss.backward()?;
        sums.take(&ctx.weights.trained_end, &mut gradients)?;
        slopes.push(sums::gradient(&mut gradients, &x)?.detach());
        scores.extend(said.scores()?);
    }
    Ok((scores, Tensor::cat(&slopes, 0)?))
}

fn chunks(packed: &Packed) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = packed.rows.len();
    (0..rows).step_by(CHUNK).map(move |first| first..(first + CHUNK).min(rows))
}

/// What the head says of these rows, whose part of the last layer's output is `x`.
fn chunk(ctx: &Context<'_>, x: &Tensor, packed: &Packed, rows: Range<usize>) -> Result<Chunk> {
    let normed = rms_norm(x, &ctx.weights.final_norm, ctx.config.rms_norm_eps)?;
    let logits = product::linear(&normed, &ctx.weights.head, ctx.numbers)?;
    say(&logits, &packed.targets[rows.clone()], &packed.lenses[rows])
}

/// What these logits `[rows, V]` say of their targets.
pub(super) fn say(logits: &Tensor, targets: &[u32], lenses: &[Lens]) -> Result<Chunk> {
    let logits = narrowed(logits, lenses)?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let exp = shifted.exp()?;
    let total = exp.sum_keepdim(D::Minus1)?;
    let normaliser = total.log()?.squeeze(1)?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let behind = shifted.gather(&targets, 1)?.squeeze(1)?;
    let mean = (&exp * &shifted)?.sum_keepdim(D::Minus1)?.div(&total)?.squeeze(1)?;
    Ok(Chunk { logprobs: (&behind - &normaliser)?, entropies: (normaliser - mean)?, behind })
}

/// Divides each row by its temperature and refuses what its grammar refuses.
fn narrowed(logits: &Tensor, lenses: &[Lens]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    let mut logits = logits.clone();
    if lenses.iter().any(|lens| lens.temperature != 1.0) {
        let factors: Vec<f32> = lenses.iter().map(|lens| 1.0 / lens.temperature).collect();
        logits = logits.broadcast_mul(&Tensor::from_vec(factors, (rows, 1), logits.device())?)?;
    }
    if lenses.iter().any(|lens| lens.allowed.is_some()) {
        let allowed: Vec<u8> = lenses.iter().flat_map(|lens| (0..vocabulary as u32).map(|token| u8::from(lens.allows(token)))).collect();
        let allowed = Tensor::from_vec(allowed, (rows, vocabulary), logits.device())?;
        let refused = Tensor::full(REFUSED, (rows, vocabulary), logits.device())?;
        logits = allowed.where_cond(&logits, &refused)?;
    }
    Ok(logits)
}

impl Chunk {
    pub(super) fn scores(&self) -> Result<Vec<Score>> {
        let said = Tensor::stack(&[&self.logprobs, &self.entropies, &self.behind], 1)?.detach().to_vec2::<f32>()?;
        let score = |row: Vec<f32>| {
            let exact = if row[2] >= 0.0 { Exact::Yes } else { Exact::No };
            Score { logprob: row[0], entropy: row[1], exact }
        };
        Ok(said.into_iter().map(score).collect())
    }
}
