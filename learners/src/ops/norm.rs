//! Root-mean-square normalisation (Zhang and Sennrich 2019): `y = x / rms(x) * w`.

use super::vector::{dot, fma};

/// Computes `y[n] = x[n] * inv[n] * w`, and saves `inv[n] = 1 / sqrt(mean(x[n]²) + eps)` for the backward pass.
///
/// Shapes: `x`, `y` `[N, C]`; `inv` `[N]`; `w` `[C]`.
pub fn forward(y: &mut [f32], inv: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let width = w.len();
    for ((y, x), inv) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(inv) {
        let r = inverse_rms(x, eps);
        *inv = r;
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * r * w;
        }
    }
}

/// Returns `1 / sqrt(mean(x²) + eps)`.
#[inline]
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Adds the gradient of the input to `dx` and the gradient of the weight to `dw`.
///
/// With `g = dy * w`: `dx += inv * g - x * inv³ * mean(g * x)`, `dw += dy * x * inv`.
pub fn backward(dx: &mut [f32], dw: &mut [f32], dy: &[f32], x: &[f32], inv: &[f32], w: &[f32]) {
    let width = w.len();
    let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width)).zip(inv);
    for (((dx, dy), x), &r) in rows {
        row_backward(dx, dw, dy, x, r, w);
    }
}

/// Computes one row of [`backward`]; `r` is the row's `inv`.
#[inline]
pub fn row_backward(dx: &mut [f32], dw: &mut [f32], dy: &[f32], x: &[f32], r: f32, w: &[f32]) {
    let mean = triple_dot(dy, w, x) / x.len() as f32;
    let pull = -r * r * r * mean;
    for ((((dx, dw), dy), x), w) in dx.iter_mut().zip(dw).zip(dy).zip(x).zip(w) {
        *dw = fma(dy * r, *x, *dw);
        *dx += fma(dy * r, *w, pull * x);
    }
}

/// Returns `Σ a b c`.
#[inline]
fn triple_dot(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let ((ac, ar), (bc, br), (cc, cr)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    for ((a, b), c) in ac.iter().zip(bc).zip(cc) {
        for l in 0..LANES {
            lanes[l] = fma(a[l] * b[l], c[l], lanes[l]);
        }
    }
    let rest: f32 = ar.iter().zip(br).zip(cr).map(|((a, b), c)| a * b * c).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (x, w, dy) = (random(3 * 20, 1), random(20, 2), random(3 * 20, 3));
        let loss = |x: &[f32], w: &[f32]| {
            let mut y = vec![0.0; 60];
            forward(&mut y, &mut [0.0; 3], x, w, 1e-6);
            weighted_sum(&y, &dy)
        };
        let (mut y, mut inv) = (vec![0.0; 60], [0.0; 3]);
        forward(&mut y, &mut inv, &x, &w, 1e-6);
        let (mut dx, mut dw) = (vec![0.0; 60], vec![0.0; 20]);
        backward(&mut dx, &mut dw, &dy, &x, &inv, &w);
        check_gradient("x", &x, &dx, |x| loss(x, &w));
        check_gradient("w", &w, &dw, |w| loss(&x, w));
    }
}
