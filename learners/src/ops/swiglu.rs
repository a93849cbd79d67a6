//! The gated activation of the MLP, SwiGLU (Shazeer 2020): `act = silu(gate) * up`.

use super::vector::{fma, sigmoid};

/// Computes `act[n] = silu(gate[n]) * up[n]`. Shapes: `gate_up` `[N, 2 I]`, gates first; `act` `[N, I]`.
pub fn forward(act: &mut [f32], gate_up: &[f32], inner: usize) {
    for (act, gate_up) in act.chunks_exact_mut(inner).zip(gate_up.chunks_exact(2 * inner)) {
        let (gate, up) = gate_up.split_at(inner);
        for ((a, g), u) in act.iter_mut().zip(gate).zip(up) {
            *a = g * sigmoid(*g) * u;
        }
    }
}

/// Replaces `gate_up` by its gradient, given the gradient of `act`.
///
/// `dgate = dact * up * s * (1 + gate * (1 - s))`, `dup = dact * gate * s`, where `s = sigmoid(gate)`.
pub fn backward_in_place(gate_up: &mut [f32], dact: &[f32], inner: usize) {
    for (dact, gate_up) in dact.chunks_exact(inner).zip(gate_up.chunks_exact_mut(2 * inner)) {
        let (gate, up) = gate_up.split_at_mut(inner);
        for ((d, g), u) in dact.iter().zip(gate).zip(up) {
            let s = sigmoid(*g);
            let silu = *g * s;
            let slope = fma(silu, 1.0 - s, s);
            (*g, *u) = (d * *u * slope, d * silu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (x, dy) = (random(2 * 2 * 9, 1), random(2 * 9, 2));
        let mut dx = x.clone();
        backward_in_place(&mut dx, &dy, 9);
        check_gradient("gate and up", &x, &dx, |x| {
            let mut y = vec![0.0; 18];
            forward(&mut y, x, 9);
            weighted_sum(&y, &dy)
        });
    }
}
