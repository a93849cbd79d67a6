//! Linear layers without bias, `y = x Wᵀ`, with weights in single precision or frozen in a compact format.

use super::fit;
use super::frozen::FrozenMatrix;
use super::matmul::{Mat, MatMut, Precision, Write, matmul};

/// The number of rows of a frozen matrix that are expanded to single precision at once.
const PANEL: usize = 512;

/// The shape of a call of a linear layer: `x` is `[rows, inputs]`, `W` is `[outputs, inputs]`, `y` is `[rows, outputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// The number of rows of the input.
    pub rows: usize,
    /// The width of the input.
    pub inputs: usize,
    /// The width of the output.
    pub outputs: usize,
    /// The precision of matrix products.
    pub precision: Precision,
}

/// Computes `y = x Wᵀ`, or `y += x Wᵀ` for a residual connection.
pub fn forward(y: &mut [f32], x: &[f32], w: &[f32], d: Dims, write: Write) {
    let out = MatMut::new(y, d.rows, d.outputs);
    matmul(d.precision, out, Mat::new(x, d.rows, d.inputs), Mat::new(w, d.outputs, d.inputs).t(), 1.0, write);
}

/// Computes `dx = dy W` or `dx += dy W`.
pub fn backward_input(dx: &mut [f32], dy: &[f32], w: &[f32], d: Dims, write: Write) {
    let out = MatMut::new(dx, d.rows, d.inputs);
    matmul(d.precision, out, Mat::new(dy, d.rows, d.outputs), Mat::new(w, d.outputs, d.inputs), 1.0, write);
}

/// Computes `dW += dyᵀ x`.
pub fn backward_weight(dw: &mut [f32], dy: &[f32], x: &[f32], d: Dims) {
    let out = MatMut::new(dw, d.outputs, d.inputs);
    matmul(d.precision, out, Mat::new(dy, d.rows, d.outputs).t(), Mat::new(x, d.rows, d.inputs), 1.0, Write::Add);
}

/// Computes [`forward`] with a frozen matrix, which is expanded panel by panel.
pub(crate) fn forward_frozen(y: &mut [f32], x: &[f32], w: &FrozenMatrix, d: Dims, write: Write, panel: &mut Vec<f32>) {
    for first in (0..d.outputs).step_by(PANEL) {
        let rows = PANEL.min(d.outputs - first);
        let panel = fit(panel, rows * d.inputs);
        w.expand(first * d.inputs..(first + rows) * d.inputs, panel);
        let out = MatMut::strided(&mut y[first..], d.rows, rows, d.outputs);
        matmul(d.precision, out, Mat::new(x, d.rows, d.inputs), Mat::new(panel, rows, d.inputs).t(), 1.0, write);
    }
}

/// Computes [`backward_input`] with a frozen matrix, which is expanded panel by panel.
pub(crate) fn backward_input_frozen(dx: &mut [f32], dy: &[f32], w: &FrozenMatrix, d: Dims, write: Write, panel: &mut Vec<f32>) {
    for first in (0..d.outputs).step_by(PANEL) {
        let rows = PANEL.min(d.outputs - first);
        let panel = fit(panel, rows * d.inputs);
        w.expand(first * d.inputs..(first + rows) * d.inputs, panel);
        let write = if first == 0 { write } else { Write::Add };
        let dy = Mat::strided(&dy[first..], d.rows, rows, d.outputs);
        matmul(d.precision, MatMut::new(dx, d.rows, d.inputs), dy, Mat::new(panel, rows, d.inputs), 1.0, write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let d = Dims { rows: 5, inputs: 7, outputs: 3, precision: Precision::F32 };
        let (x, w, dy) = (random(35, 1), random(21, 2), random(15, 3));
        let loss = |x: &[f32], w: &[f32]| {
            let mut y = vec![0.0; 15];
            forward(&mut y, x, w, d, Write::Set);
            weighted_sum(&y, &dy)
        };
        let (mut dx, mut dw) = (vec![0.0; 35], vec![0.0; 21]);
        backward_input(&mut dx, &dy, &w, d, Write::Set);
        backward_weight(&mut dw, &dy, &x, d);
        check_gradient("x", &x, &dx, |x| loss(x, &w));
        check_gradient("w", &w, &dw, |w| loss(&x, w));
    }
}
