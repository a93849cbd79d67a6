//! Preparation of queries and keys: an RMS norm of each head if the model has one (Qwen3), then rotary position embeddings (Su et al. 2021) whose
//! pairs are element `i` of the first and of the second half of a head.

use super::norm::{inverse_rms, row_backward};

/// The cosines and sines of the rotation angle of every position and pair.
#[derive(Clone, Debug)]
pub struct RopeTable {
    half: usize,
    /// The cosines `[positions, half]`.
    cos: Vec<f32>,
    /// The sines `[positions, half]`.
    sin: Vec<f32>,
}

impl RopeTable {
    /// Creates the table for heads of width `head_dim` at positions `0..positions`. The angle of pair `i` at position `p` is `p` times its
    /// frequency, `theta^(-2i / head_dim)` after `scale_frequency`.
    pub fn new(head_dim: usize, theta: f64, positions: usize, scale_frequency: impl Fn(f64) -> f64) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| scale_frequency(theta.powf(-2.0 * i as f64 / head_dim as f64))).collect();
        let angle = |p: usize, i: usize| p as f64 * frequencies[i];
        let every = || (0..positions).flat_map(|p| (0..half).map(move |i| (p, i)));
        Self {
            half,
            cos: every().map(|(p, i)| angle(p, i).cos() as f32).collect(),
            sin: every().map(|(p, i)| angle(p, i).sin() as f32).collect(),
        }
    }

    /// Returns the cosines and sines `[positions, half]`, and `half`.
    #[cfg(feature = "gpu-training")]
    pub(crate) fn tables(&self) -> (&[f32], &[f32], usize) {
        (&self.cos, &self.sin, self.half)
    }

    /// Returns the cosines and sines of one position.
    fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let at = position as usize * self.half;
        (&self.cos[at..at + self.half], &self.sin[at..at + self.half])
    }
}

/// Rotates the pairs `(x[i], x[i + half])` by the angles of a position.
#[inline]
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(cos.len());
    for (((l, h), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*l, *h) = (*l * c - *h * s, *h * c + *l * s);
    }
}

/// Rotates the pairs by the opposite angles: the transpose of [`rotate`].
#[inline]
fn rotate_back(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(cos.len());
    for (((l, h), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*l, *h) = (*l * c + *h * s, *h * c - *l * s);
    }
}

/// Normalises each head of each row, unless `w` is empty, and rotates it by the angles of its position.
///
/// Shapes: `y` `[N, heads * D]`, dense; `x` has the heads at the start of its rows, which start `x_stride` elements apart; `inv` `[N, heads]`;
/// `w` `[D]` or `[0]`; `positions` `[N]`.
pub fn forward(
    y: &mut [f32],
    inv: &mut [f32],
    (x, x_stride): (&[f32], usize),
    w: &[f32],
    eps: f32,
    (table, positions): (&RopeTable, &[u32]),
) {
    let (dim, heads) = (2 * table.half, inv.len() / positions.len().max(1));
    for (n, (y, &position)) in y.chunks_exact_mut(heads * dim).zip(positions).enumerate() {
        let x = &x[n * x_stride..n * x_stride + heads * dim];
        let inv = &mut inv[n * heads..(n + 1) * heads];
        let (cos, sin) = table.at(position);
        for ((y, x), inv) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(inv) {
            if w.is_empty() {
                y.copy_from_slice(x);
            } else {
                *inv = inverse_rms(x, eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * *inv * w;
                }
            }
            rotate(y, cos, sin);
        }
    }
}

/// Writes the gradient of the heads before the norm to `dx` and adds the gradient of the norm's weight to `dw`; `dy` is overwritten.
///
/// Shapes are as in [`forward`]; `dx` has the stride of `x`, and only the columns of the heads are written.
pub fn backward(
    dx: &mut [f32],
    dw: &mut [f32],
    dy: &mut [f32],
    (x, x_stride): (&[f32], usize),
    (inv, w): (&[f32], &[f32]),
    (table, positions): (&RopeTable, &[u32]),
) {
    let (dim, heads) = (2 * table.half, inv.len() / positions.len().max(1));
    for (n, (dy, &position)) in dy.chunks_exact_mut(heads * dim).zip(positions).enumerate() {
        let columns = n * x_stride..n * x_stride + heads * dim;
        let (x, dx) = (&x[columns.clone()], &mut dx[columns]);
        let inv = &inv[n * heads..(n + 1) * heads];
        let (cos, sin) = table.at(position);
        dx.fill(0.0);
        let every = dx.chunks_exact_mut(dim).zip(dy.chunks_exact_mut(dim)).zip(x.chunks_exact(dim));
        for (((dx, dy), x), &r) in every.zip(inv) {
            rotate_back(dy, cos, sin);
            match w.is_empty() {
                true => dx.copy_from_slice(dy),
                false => row_backward(dx, dw, dy, x, r, w),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    #[test]
    fn turning_there_and_back_changes_nothing() {
        let table = RopeTable::new(8, 10_000.0, 16, |f| f);
        let before = random(8, 5);
        let mut x = before.clone();
        let (cos, sin) = table.at(13);
        rotate(&mut x, cos, sin);
        assert!(x.iter().zip(&before).any(|(a, b)| (a - b).abs() > 0.1));
        rotate_back(&mut x, cos, sin);
        assert!(x.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        // There are three rows of two heads of width four, inside rows of eleven elements.
        let table = RopeTable::new(4, 100.0, 16, |f| f);
        let positions = [0, 3, 11];
        let (x, w, dy) = (random(33, 1), random(4, 2), random(24, 3));
        let run = |x: &[f32], w: &[f32]| {
            let (mut y, mut inv) = (vec![0.0; 24], vec![0.0; 6]);
            forward(&mut y, &mut inv, (x, 11), w, 1e-6, (&table, &positions));
            (y, inv)
        };
        let inv = run(&x, &w).1;
        let (mut dx, mut dw) = (vec![0.0; 33], vec![0.0; 4]);
        backward(&mut dx, &mut dw, &mut dy.clone(), (&x, 11), (&inv, &w), (&table, &positions));
        check_gradient("x", &x, &dx, |x| weighted_sum(&run(x, &w).0, &dy));
        check_gradient("w", &w, &dw, |w| weighted_sum(&run(&x, w).0, &dy));
    }
}
