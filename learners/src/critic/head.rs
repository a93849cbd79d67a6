//! The head of a critic, which computes one logit for a state: `w2 · silu(W1 x + b1) + b2`.

use rand::{Rng, rngs::StdRng};

use crate::model::{Role, Tensor};
use crate::ops::vector::dot;

/// The widths of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The number of features of a state, `C`.
    pub width: usize,
    /// The width of the hidden layer, `H`.
    pub hidden: usize,
}

impl Shape {
    /// Returns the tensors in the order of the flat slice.
    pub fn tensors(self) -> Vec<Tensor> {
        let Self { width, hidden } = self;
        let named: [(&str, &[usize], Role); 4] = [
            ("up.weight", &[hidden, width], Role::Matrix),
            ("up.bias", &[hidden], Role::Bias),
            ("down.weight", &[1, hidden], Role::Matrix),
            ("down.bias", &[1], Role::Bias),
        ];
        let mut end = 0;
        let tensors = named.map(|(name, shape, role)| {
            let start = end;
            end += shape.iter().product::<usize>();
            Tensor { name: name.into(), shape: shape.to_vec(), range: start..end, role }
        });
        tensors.to_vec()
    }

    /// Returns the ends of the first three tensors in the flat slice.
    fn ends(self) -> [usize; 3] {
        let up = self.hidden * self.width;
        [up, up + self.hidden, up + 2 * self.hidden]
    }

    /// Returns the number of parameters.
    fn len(self) -> usize {
        self.ends()[2] + 1
    }
}

/// A head with its parameters in one flat slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub shape: Shape,
    pub params: Vec<f32>,
}

/// The parameters by tensor.
struct Parts<'a> {
    up: &'a [f32],
    up_bias: &'a [f32],
    down: &'a [f32],
    down_bias: f32,
}

impl Head {
    /// Creates a head whose first matrix is drawn uniformly from `±1/√C`. All other parameters are 0, so that the logit of every state is 0 at first.
    pub fn random(shape: Shape, rng: &mut StdRng) -> Self {
        let bound = 1.0 / (shape.width.max(1) as f32).sqrt();
        let mut params = vec![0.0; shape.len()];
        params[..shape.ends()[0]].fill_with(|| rng.random_range(-bound..=bound));
        Self { shape, params }
    }

    fn parts(&self) -> Parts<'_> {
        let [up, up_bias, down] = self.shape.ends();
        let p = &self.params;
        Parts { up: &p[..up], up_bias: &p[up..up_bias], down: &p[up_bias..down], down_bias: p[down] }
    }

    /// Returns the logit of scaled features `[C]`, and writes the inputs of the activation `[H]` to `inner`.
    pub fn logit(&self, x: &[f32], inner: &mut Vec<f32>) -> f64 {
        let Parts { up, up_bias, down, down_bias } = self.parts();
        inner.clear();
        inner.extend(up.chunks_exact(self.shape.width).zip(up_bias).map(|(row, bias)| dot(row, x) + bias));
        let sum: f64 = inner.iter().zip(down).map(|(z, w)| f64::from(silu(*z)) * f64::from(*w)).sum();
        sum + f64::from(down_bias)
    }

    /// Adds the gradient of a loss to `grads`. `slope` is the derivative of the loss with respect to the logit; `x` and `inner` are those of
    /// [`Head::logit`].
    pub fn backward(&self, x: &[f32], inner: &[f32], slope: f32, grads: &mut [f32]) {
        let [up_end, up_bias_end, down_end] = self.shape.ends();
        let down = self.parts().down;
        let (matrix, rest) = grads.split_at_mut(up_end);
        let (up_bias, rest) = rest.split_at_mut(up_bias_end - up_end);
        let (d_down, d_down_bias) = rest.split_at_mut(down_end - up_bias_end);
        d_down_bias[0] += slope;
        for (h, row) in matrix.chunks_exact_mut(self.shape.width).enumerate() {
            let (value, derivative) = (silu(inner[h]), silu_derivative(inner[h]));
            d_down[h] += slope * value;
            let inner_slope = slope * down[h] * derivative;
            up_bias[h] += inner_slope;
            for (g, x) in row.iter_mut().zip(x) {
                *g += inner_slope * x;
            }
        }
    }
}

/// Returns the logistic function `1 / (1 + e^-z)`.
pub(super) fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn silu(z: f32) -> f32 {
    z / (1.0 + (-z).exp())
}

/// Returns the derivative of `silu` at `z`.
fn silu_derivative(z: f32) -> f32 {
    let s = 1.0 / (1.0 + (-z).exp());
    s * (1.0 + z * (1.0 - s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::critic::CriticKind;
    use crate::testing::{check_gradient, random};

    #[test]
    fn gradients_of_both_losses_agree_with_finite_differences() {
        let shape = Shape { width: 5, hidden: 3 };
        let (params, x) = (random(shape.len(), 1), random(5, 2));
        for (kind, target) in [(CriticKind::Value, 1.0), (CriticKind::Value, 0.0), (CriticKind::Potential, 0.3)] {
            let loss = |params: &[f32]| {
                let head = Head { shape, params: params.to_vec() };
                kind.loss(head.logit(&x, &mut Vec::new()), target).0
            };
            let head = Head { shape, params: params.clone() };
            let (mut inner, mut grads) = (Vec::new(), vec![0.0; shape.len()]);
            let logit = head.logit(&x, &mut inner);
            head.backward(&x, &inner, kind.loss(logit, target).1 as f32, &mut grads);
            check_gradient(&format!("{kind:?}"), &params, &grads, loss);
            assert_eq!(shape.tensors().last().unwrap().range.end, shape.len());
        }
    }
}
