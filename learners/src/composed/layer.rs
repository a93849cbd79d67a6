//! One layer.

use candle_core::{DType, Result, Tensor};

use super::operations::{attention, rms_norm, rope, swiglu};
use super::packed::Input;
use super::product;
use super::weights::{Linear, Weights};
use crate::model::{Demand, ModelConfig};

/// What every layer is called with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub input: &'a Input,
    /// The numbers that products are computed in.
    pub numbers: DType,
}

/// The layer's output `[M, C]` from its input `[N, C]`; the last layer asks and thinks only where a prediction is needed.
pub(super) fn forward(ctx: &Context<'_>, layer: usize, x: &Tensor) -> Result<Tensor> {
    let weights = &ctx.weights.layers[layer];
    let eps = ctx.config.rms_norm_eps;
    let heads = ctx.config.heads();
    let kv_width = heads.kv_heads * heads.head_dim;
    let last = layer + 1 == ctx.weights.layers.len();
    let demand = if last { Demand::NeededRows } else { Demand::AllRows };
    let (asking, every) = (ctx.input.asking(demand), ctx.input.asking(Demand::AllRows));
    let of_needed = |x: &Tensor| if last { x.index_select(&ctx.input.rows, 0) } else { Ok(x.clone()) };
    let of_heads = |x: &Tensor, heads: usize, norm: Option<&Tensor>, turns: (&Tensor, &Tensor)| {
        let (rows, width) = x.dims2()?;
        let x = x.reshape((rows, heads, width / heads))?;
        let x = norm.map_or_else(|| Ok(x.clone()), |norm| rms_norm(&x, norm, eps))?;
        rope(&x, turns)?.reshape((rows, width))
    };

    let h = rms_norm(x, &weights.input_norm, eps)?;
    let q = linear(&weights.q, &of_needed(&h)?, ctx.numbers)?;
    let kv = linear(&weights.kv, &h, ctx.numbers)?;
    let k = kv.narrow(1, 0, kv_width)?.contiguous()?;
    let v = kv.narrow(1, kv_width, kv_width)?.contiguous()?;
    let q = of_heads(&q, heads.heads, weights.q_norm.as_ref(), (&asking.cos, &asking.sin))?;
    let k = of_heads(&k, heads.kv_heads, weights.k_norm.as_ref(), (&every.cos, &every.sin))?;
    let attended = attention((&q, &k, &v), &asking.blocks, heads, ctx.numbers)?;
    let x = (of_needed(x)? + linear(&weights.o, &attended, ctx.numbers)?)?;
    let h = rms_norm(&x, &weights.post_norm, eps)?;
    let act = swiglu(&linear(&weights.gate_up, &h, ctx.numbers)?)?;
    x + linear(&weights.down, &act, ctx.numbers)?
}

/// `x Wᵀ + b`, with what the adapters say: `+ scale · (x Aᵀ) Bᵀ` (Hu et al. 2021, section 4.1).
pub(super) fn linear(layer: &Linear, x: &Tensor, numbers: DType) -> Result<Tensor> {
    let mut y = product::linear(x, &layer.weight, numbers)?;
    if let Some(bias) = &layer.bias {
        y = y.broadcast_add(bias)?;
    }
    let width = y.dim(1)?;
    for low in &layer.low {
        let down = product::linear(x, &low.a, numbers)?;
        let update = (product::linear(&down, &low.b, numbers)? * layer.scale)?;
        y = (y + update.pad_with_zeros(1, low.outputs.start, width - low.outputs.end)?)?;
    }
    Ok(y)
}
