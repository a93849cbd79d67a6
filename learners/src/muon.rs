//! Muon (Jordan et al. 2024): steps along the nearly orthogonalised momentum of a matrix, scaled to the size of AdamW's steps (Liu et al. 2025,
//! section 2.2).

use crate::ops::matmul::{Mat, MatMut, Precision, Write, matmul};

/// The decay of the momentum.
pub(crate) const MOMENTUM: f32 = 0.95;

/// The number of steps of the Newton-Schulz iteration.
const ITERATIONS: usize = 5;
/// The coefficients of the Newton-Schulz iteration: they bring all singular values near 1, quickly rather than exactly.
const QUINTIC: (f32, f32, f32) = (3.4445, -4.775, 2.0315);

/// Computes the step of a `[rows, cols]` matrix: adds `gradient` to `momentum`, and replaces `gradient` by the direction of the step, which has a
/// root mean square of about 0.2.
pub(crate) fn direction(gradient: &mut [f32], momentum: &mut [f32], rows: usize, cols: usize) {
    for (g, m) in gradient.iter_mut().zip(momentum) {
        *m = MOMENTUM * *m + *g;
        *g += MOMENTUM * *m;
    }
    orthogonalize(gradient, rows, cols);
    crate::ops::vector::scale(gradient, 0.2 * (rows.max(cols) as f32).sqrt());
}

/// Approximately orthogonalises a matrix: replaces `U S Vᵀ` by about `U Vᵀ`.
fn orthogonalize(matrix: &mut [f32], rows: usize, cols: usize) {
    let norm = crate::ops::vector::dot(matrix, matrix).sqrt();
    if norm == 0.0 {
        return;
    }
    crate::ops::vector::scale(matrix, 1.0 / norm);
    let (a, b, c) = QUINTIC;
    let side = rows.min(cols);
    let mut gram = vec![0.0; side * side];
    let mut poly = vec![0.0; side * side];
    let mut next = vec![0.0; matrix.len()];
    for _ in 0..ITERATIONS {
        let x = Mat::new(matrix, rows, cols);
        let (left, right) = if rows <= cols { (x, x.t()) } else { (x.t(), x) };
        product(&mut gram, side, left, right, 1.0, Write::Set);
        poly.copy_from_slice(&gram);
        crate::ops::vector::scale(&mut poly, b);
        let g = Mat::new(&gram, side, side);
        product(&mut poly, side, g, g, c, Write::Add);
        next.copy_from_slice(matrix);
        crate::ops::vector::scale(&mut next, a);
        let p = Mat::new(&poly, side, side);
        let (left, right) = if rows <= cols { (p, x) } else { (x, p) };
        matmul(Precision::Bf16, MatMut::new(&mut next, rows, cols), left, right, 1.0, Write::Add);
        matrix.copy_from_slice(&next);
    }
}

/// Computes a square product `alpha a b`.
fn product(out: &mut [f32], side: usize, a: Mat<'_>, b: Mat<'_>, alpha: f32, write: Write) {
    matmul(Precision::Bf16, MatMut::new(out, side, side), a, b, alpha, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// Checks that the singular values of an orthogonalised random matrix are near 1, by its Gram matrix.
    fn check_orthogonal(rows: usize, cols: usize) {
        let mut x = random(rows * cols, 7);
        orthogonalize(&mut x, rows, cols);
        let side = rows.min(cols);
        let mut gram = vec![0.0; side * side];
        let m = Mat::new(&x, rows, cols);
        let (left, right) = if rows <= cols { (m, m.t()) } else { (m.t(), m) };
        matmul(Precision::F32, MatMut::new(&mut gram, side, side), left, right, 1.0, Write::Set);
        for (index, value) in gram.iter().enumerate() {
            let (row, col) = (index / side, index % side);
            let within = if row == col { (0.4..1.6).contains(value) } else { value.abs() < 0.35 };
            assert!(within, "{rows}x{cols}: ({row}, {col}) is {value}");
        }
    }

    #[test]
    fn singular_values_come_near_one() {
        check_orthogonal(16, 48);
        check_orthogonal(48, 16);
        check_orthogonal(64, 32);
    }

    #[test]
    fn the_direction_has_the_size_of_an_adamw_step_and_follows_the_gradient() {
        let gradient = random(32 * 64, 3);
        let (mut step, mut momentum) = (gradient.clone(), vec![0.0; 32 * 64]);
        direction(&mut step, &mut momentum, 32, 64);
        let rms = (crate::ops::vector::dot(&step, &step) / step.len() as f32).sqrt();
        assert!((0.14..0.26).contains(&rms), "{rms}");
        assert!(crate::ops::vector::dot(&step, &gradient) > 0.0);
        assert_eq!(momentum, gradient);
    }
}
