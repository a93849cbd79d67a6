//! The operations between matrix products. Each is defined in the module of the same name in [`crate::ops`].

use candle_core::{D, Result, Tensor};

/// The score of a key that a query cannot see, and the logit of a token that is not allowed: its exponential is 0, and no product with it
/// overflows.
pub(super) const MASKED: f32 = -1e30;

/// Computes `x / rms(x) * w` over the last axis.
pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(w)
}

/// Rotates the pairs of each head by the angles of its row. Shapes: `x` `[N, heads, D]`, `cos` and `sin` `[N, 1, D / 2]`.
pub(super) fn rope(x: &Tensor, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (low, high) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let rotated_low = (low.broadcast_mul(cos)? - high.broadcast_mul(sin)?)?;
    let rotated_high = (high.broadcast_mul(cos)? + low.broadcast_mul(sin)?)?;
    Tensor::cat(&[rotated_low, rotated_high], D::Minus1)
}

/// Computes `silu(gate) * up` of `gate_up` `[N, 2 I]`, gates first.
pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(1)? / 2;
    gate_up.narrow(1, 0, inner)?.silu()? * gate_up.narrow(1, inner, inner)?
}
