//! The linear layers of a transformer layer: weight, bias, and the low-rank adapters beside them.

use std::ops::Range;

use super::context::Context;
use super::low_rank::{LowRankScratch, Projection};
use crate::ops::fit;
use crate::ops::linear::{self, Dims};
use crate::ops::matmul::Write;

/// The slice that gradients are added to.
pub(super) enum GradientSink<'a> {
    /// The gradients of all parameters, which are all trained.
    Parameters(&'a mut [f32]),
    /// The gradients of an adapter; all other parameters are frozen.
    Adapter(&'a mut [f32]),
}

impl GradientSink<'_> {
    /// Returns the gradient of a parameter; `None` if the parameter is frozen.
    pub(super) fn parameter(&mut self, range: &Range<usize>) -> Option<&mut [f32]> {
        match self {
            Self::Parameters(grads) => Some(&mut grads[range.clone()]),
            Self::Adapter(_) => None,
        }
    }

    /// Returns the gradient of a small parameter, or a scratch buffer that is discarded if the parameter is frozen.
    pub(super) fn parameter_or_scratch<'b>(&'b mut self, range: &Range<usize>, scratch: &'b mut Vec<f32>) -> &'b mut [f32] {
        match self {
            Self::Parameters(grads) => &mut grads[range.clone()],
            Self::Adapter(_) => fit(scratch, range.len()),
        }
    }
}

/// Buffers of the linear layers.
#[derive(Default)]
pub(super) struct LinearScratch {
    /// Rows of a frozen matrix in single precision.
    panel: Vec<f32>,
    low_rank: LowRankScratch,
}

impl<'a> Context<'a> {
    /// Returns the ranges of a projection's weight and bias, and its shape; the range of a missing bias is empty.
    fn projection(&self, projection: Projection, rows: usize) -> (&'a Range<usize>, &'a Range<usize>, Dims) {
        let heads = self.config.heads();
        let (c, i, q, kv) =
            (self.config.hidden_size, self.config.intermediate_size, heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        const NONE: &Range<usize> = &(0..0);
        let (weight, bias, inputs, outputs) = match projection {
            Projection::Q => (&self.ranges.q, &self.ranges.q_bias, c, q),
            Projection::Kv => (&self.ranges.kv, &self.ranges.kv_bias, c, 2 * kv),
            Projection::O => (&self.ranges.o, NONE, q, c),
            Projection::GateUp => (&self.ranges.gate_up, NONE, c, 2 * i),
            Projection::Down => (&self.ranges.down, NONE, i, c),
        };
        (weight, bias, Dims { rows, inputs, outputs, precision: self.precision })
    }

    /// Sets `y` to `x Wᵀ + b` or adds that to it, and adds the updates of the adapter modules, `scale · (x Aᵀ) Bᵀ`.
    pub(super) fn linear(&self, projection: Projection, y: &mut [f32], x: &[f32], rows: usize, write: Write, scratch: &mut LinearScratch) {
        let (weight, bias, dims) = self.projection(projection, rows);
        match self.frozen.get(&weight.start) {
            Some(matrix) => linear::forward_frozen(y, x, matrix, dims, write, &mut scratch.panel),
            None => linear::forward(y, x, &self.params[weight.clone()], dims, write),
        }
        if !bias.is_empty() {
            for row in y[..rows * dims.outputs].chunks_exact_mut(dims.outputs) {
                crate::ops::vector::add(row, &self.params[bias.clone()]);
            }
        }
        if let Some(adapter) = self.adapter {
            for module in adapter.of(projection) {
                adapter.forward(module, x, y, dims, &mut scratch.low_rank);
            }
        }
    }

    /// Sets or adds the gradient of the input, and adds the gradients of the trained tensors to the sink.
    pub(super) fn linear_backward(
        &self,
        projection: Projection,
        (dy, x): (&[f32], &[f32]),
        (dx, write): (&mut [f32], Write),
        rows: usize,
        sink: &mut GradientSink<'_>,
        scratch: &mut LinearScratch,
    ) {
        let (weight, bias, dims) = self.projection(projection, rows);
        match self.frozen.get(&weight.start) {
            Some(matrix) => linear::backward_input_frozen(dx, dy, matrix, dims, write, &mut scratch.panel),
            None => linear::backward_input(dx, dy, &self.params[weight.clone()], dims, write),
        }
        match sink {
            GradientSink::Parameters(grads) => {
                linear::backward_weight(&mut grads[weight.clone()], dy, x, dims);
                for row in dy[..rows * dims.outputs].chunks_exact(dims.outputs).filter(|_| !bias.is_empty()) {
                    crate::ops::vector::add(&mut grads[bias.clone()], row);
                }
            }
            GradientSink::Adapter(grads) => {
                if let Some(adapter) = self.adapter {
                    for module in adapter.of(projection) {
                        adapter.backward(module, (dy, x), dx, dims, grads, &mut scratch.low_rank);
                    }
                }
            }
        }
    }
}
