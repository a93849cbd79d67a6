//! Causal attention in blocks of queries; [`crate::ops::attention`] defines the same operation for the crate's own kernels.

use candle_core::{D, DType, Result, Tensor};

use super::packed::Block;
use super::product::matmul;
use crate::ops::attention::Heads;

/// Computes the softmax over the last axis.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.detach().max_keepdim(D::Minus1)?;
    let exp = x.broadcast_sub(&top)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Computes causal attention with grouped query heads. Shapes: `q` `[M, heads * D]`, `k` and `v` `[N, kv_heads * D]`.
pub(super) fn attention((q, k, v): (&Tensor, &Tensor, &Tensor), blocks: &[Block], heads: Heads, dtype: DType) -> Result<Tensor> {
    let blocks = blocks.iter().map(|block| attend_block((q, k, v), block, heads, dtype)).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&blocks, 0)
}

/// Computes the attention of one block of queries over the keys that it can see. The query heads that share a key head are rows of one product.
fn attend_block((q, k, v): (&Tensor, &Tensor, &Tensor), block: &Block, heads: Heads, dtype: DType) -> Result<Tensor> {
    let Heads { heads, kv_heads, head_dim } = heads;
    let (rows, group) = (block.queries.len(), heads / kv_heads);
    let q = q.narrow(0, block.queries.start, rows)?.reshape((rows, kv_heads, group, head_dim))?;
    let q = (q.permute((1, 2, 0, 3))?.contiguous()?.reshape((kv_heads, group * rows, head_dim))? / (head_dim as f64).sqrt())?;
    let of_heads = |x: &Tensor| {
        let x = block.visible_rows(x)?;
        x.reshape((x.dim(0)?, kv_heads, head_dim))?.transpose(0, 1)?.contiguous()
    };
    let (k, v) = (of_heads(k)?, of_heads(v)?);
    let keys = k.dim(1)?;
    let scores = matmul(&q, &k.t()?, dtype)?.reshape((kv_heads, group, rows, keys))?.broadcast_add(&block.mask)?;
    let weights = softmax(&scores)?.reshape((kv_heads, group * rows, keys))?;
    let attended = matmul(&weights, &v, dtype)?.reshape((kv_heads, group, rows, head_dim))?;
    attended.permute((2, 0, 1, 3))?.contiguous()?.reshape((rows, heads * head_dim))
}
