//! The operations between products; what each is, its namesake in [`crate::ops`] says.

use candle_core::{D, DType, Result, Tensor};

use super::packed::Block;
use super::product::times;
use crate::ops::attention::Heads;

/// What the score of a refused key, or the logit of a refused token, is: its exponential is 0, and no product with it overflows.
pub(super) const REFUSED: f32 = -1e30;

/// `x / rms(x) * w` over the last axis.
pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(w)
}

/// Turns the pairs of each head by its row's angle: `x` `[N, heads, D]`, `cos` and `sin` `[N, 1, D / 2]`.
pub(super) fn rope(x: &Tensor, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (low, high) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let turned_low = (low.broadcast_mul(cos)? - high.broadcast_mul(sin)?)?;
    let turned_high = (high.broadcast_mul(cos)? + low.broadcast_mul(sin)?)?;
    Tensor::cat(&[turned_low, turned_high], D::Minus1)
}

/// `silu(gate) * up` of `[N, 2 I]`, gates first.
pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(1)? / 2;
    gate_up.narrow(1, 0, inner)?.silu()? * gate_up.narrow(1, inner, inner)?
}

/// Softmax over the last axis.
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.detach().max_keepdim(D::Minus1)?;
    let exp = x.broadcast_sub(&top)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Causal attention with grouped keys: `q` `[M, heads * D]`, `k` and `v` `[N, kv_heads * D]`.
pub(super) fn attention((q, k, v): (&Tensor, &Tensor, &Tensor), blocks: &[Block], heads: Heads, numbers: DType) -> Result<Tensor> {
    let blocks = blocks.iter().map(|block| attend((q, k, v), block, heads, numbers)).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&blocks, 0)
}

/// One block of queries against the keys that it can see; the queries that share a head of keys are rows of one product.
fn attend((q, k, v): (&Tensor, &Tensor, &Tensor), block: &Block, heads: Heads, numbers: DType) -> Result<Tensor> {
    let Heads { heads, kv_heads, head_dim } = heads;
    let (rows, group) = (block.queries.len(), heads / kv_heads);
    let q = q.narrow(0, block.queries.start, rows)?.reshape((rows, kv_heads, group, head_dim))?;
    let q = (q.permute((1, 2, 0, 3))?.contiguous()?.reshape((kv_heads, group * rows, head_dim))? / (head_dim as f64).sqrt())?;
    let of_heads = |x: &Tensor| {
        let x = block.keys(x)?;
        x.reshape((x.dim(0)?, kv_heads, head_dim))?.transpose(0, 1)?.contiguous()
    };
    let (k, v) = (of_heads(k)?, of_heads(v)?);
    let keys = k.dim(1)?;
    let scores = times(&q, &k.t()?, numbers)?.reshape((kv_heads, group, rows, keys))?.broadcast_add(&block.mask)?;
    let weights = softmax(&scores)?.reshape((kv_heads, group * rows, keys))?;
    let attended = times(&weights, &v, numbers)?.reshape((kv_heads, group, rows, head_dim))?;
    attended.permute((2, 0, 1, 3))?.contiguous()?.reshape((rows, heads * head_dim))
}
