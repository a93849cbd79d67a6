//! The forward pass of one transformer layer.

use candle_core::{DType, Result, Tensor};

use super::attention::attention;
use super::operations::{rms_norm, rope, swiglu};
use super::packed::Input;
use super::product;
use super::weights::{Linear, Weights};
use crate::model::{ModelConfig, OutputRows};

/// Everything that a layer reads, besides its input.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub input: &'a Input,
    /// The number type of matrix products.
    pub dtype: DType,
}

/// Computes the layer's output `[M, C]` from its input `[N, C]`. The last layer computes queries, attention output and MLP only for the rows whose
/// prediction is needed.
pub(super) fn forward(ctx: &Context<'_>, layer: usize, x: &Tensor) -> Result<Tensor> {
    let weights = &ctx.weights.layers[layer];
    let eps = ctx.config.rms_norm_eps;
    let heads = ctx.config.heads();
    let kv_width = heads.kv_heads * heads.head_dim;
    let last = layer + 1 == ctx.weights.layers.len();
    let output_rows = if last { OutputRows::Needed } else { OutputRows::All };
    let (queries, every) = (ctx.input.queries(output_rows), ctx.input.queries(OutputRows::All));
    let query_rows = |x: &Tensor| if last { x.index_select(&ctx.input.rows, 0) } else { Ok(x.clone()) };
    let prepare_heads = |x: &Tensor, heads: usize, norm: Option<&Tensor>, rotations: (&Tensor, &Tensor)| {
        let (rows, width) = x.dims2()?;
        let x = x.reshape((rows, heads, width / heads))?;
        let x = norm.map_or_else(|| Ok(x.clone()), |norm| rms_norm(&x, norm, eps))?;
        rope(&x, rotations)?.reshape((rows, width))
    };

    let h = rms_norm(x, &weights.input_norm, eps)?;
    let q = linear(&weights.q, &query_rows(&h)?, ctx.dtype)?;
    let kv = linear(&weights.kv, &h, ctx.dtype)?;
    let k = kv.narrow(1, 0, kv_width)?.contiguous()?;
    let v = kv.narrow(1, kv_width, kv_width)?.contiguous()?;
    let q = prepare_heads(&q, heads.heads, weights.q_norm.as_ref(), (&queries.cos, &queries.sin))?;
    let k = prepare_heads(&k, heads.kv_heads, weights.k_norm.as_ref(), (&every.cos, &every.sin))?;
    let attended = attention((&q, &k, &v), &queries.blocks, heads, ctx.dtype)?;
    let x = (query_rows(x)? + linear(&weights.o, &attended, ctx.dtype)?)?;
    let h = rms_norm(&x, &weights.post_norm, eps)?;
    let act = swiglu(&linear(&weights.gate_up, &h, ctx.dtype)?)?;
    x + linear(&weights.down, &act, ctx.dtype)?
}

/// Computes `x Wᵀ + b`, and adds the updates of the adapter modules, `scale · (x Aᵀ) Bᵀ` (Hu et al. 2021, section 4.1).
pub(super) fn linear(layer: &Linear, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let mut y = product::linear(x, &layer.weight, dtype)?;
    if let Some(bias) = &layer.bias {
        y = y.broadcast_add(bias)?;
    }
    let width = y.dim(1)?;
    for module in &layer.adapter {
        let down = product::linear(x, &module.a, dtype)?;
        let update = (product::linear(&down, &module.b, dtype)? * layer.scale)?;
        y = (y + update.pad_with_zeros(1, module.outputs.start, width - module.outputs.end)?)?;
    }
    Ok(y)
}
