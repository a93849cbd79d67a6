//! The linear layers of a model: weight, bias, and the low-rank adapters beside them.

use std::ops::Range;

use super::layer::Context;
use crate::ops::fit;
use crate::ops::linear::{self, Dims};
use crate::ops::matmul::{Mat, MatMut, Write, matmul};

/// A linear layer by its use; keys and values are one product, and so are gates and ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Q,
    Kv,
    O,
    GateUp,
    Down,
}

/// One adapter: which outputs of a site it adds to, and where its two factors lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub site: Site,
    /// The columns of the site's output.
    pub outputs: Range<usize>,
    /// `A` `[rank, inputs]`.
    pub a: Range<usize>,
    /// `B` `[outputs, rank]`.
    pub b: Range<usize>,
}

/// The adapters of one layer.
#[derive(Clone, Copy)]
pub(crate) struct Low<'a> {
    pub places: &'a [Place],
    pub data: &'a [f32],
    pub rank: usize,
    pub scale: f32,
}

/// Where gradients go.
pub(crate) enum Sink<'a> {
    /// All parameters are trained.
    Parameters(&'a mut [f32]),
    /// Only an adapter is trained; the rest is frozen.
    Adapter(&'a mut [f32]),
}

impl Sink<'_> {
    /// The gradient of a parameter; `None` where it is frozen.
    pub(crate) fn parameter(&mut self, range: &Range<usize>) -> Option<&mut [f32]> {
        match self {
            Self::Parameters(grads) => Some(&mut grads[range.clone()]),
            Self::Adapter(_) => None,
        }
    }

    /// The gradient of a small parameter, or a place to forget it in.
    pub(crate) fn or_spare<'b>(&'b mut self, range: &Range<usize>, spare: &'b mut Vec<f32>) -> &'b mut [f32] {
        match self {
            Self::Parameters(grads) => &mut grads[range.clone()],
            Self::Adapter(_) => fit(spare, range.len()),
        }
    }
}

/// Buffers of the linear layers.
#[derive(Default)]
pub(crate) struct LowScratch {
    /// Rows of a frozen matrix in single precision.
    panel: Vec<f32>,
    down: Vec<f32>,
    slope: Vec<f32>,
}

impl<'a> Context<'a> {
    /// Weight, bias and shape of a site.
    fn site(&self, site: Site, rows: usize) -> (&'a Range<usize>, &'a Range<usize>, Dims) {
        let heads = self.config.heads();
        let (c, i, q, kv) =
            (self.config.hidden_size, self.config.intermediate_size, heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        const NONE: &Range<usize> = &(0..0);
        let (weight, bias, inputs, outputs) = match site {
            Site::Q => (&self.at.q, &self.at.q_bias, c, q),
            Site::Kv => (&self.at.kv, &self.at.kv_bias, c, 2 * kv),
            Site::O => (&self.at.o, NONE, q, c),
            Site::GateUp => (&self.at.gate_up, NONE, c, 2 * i),
            Site::Down => (&self.at.down, NONE, i, c),
        };
        (weight, bias, Dims { rows, inputs, outputs, precision: self.precision })
    }

    fn places(&self, site: Site) -> impl Iterator<Item = (Low<'a>, &'a Place)> {
        self.low.into_iter().flat_map(move |low| low.places.iter().filter(move |place| place.site == site).map(move |place| (low, place)))
    }

    /// `y = x Wᵀ + b`, or added to `y`, with what the adapters say: `+ scale · (x Aᵀ) Bᵀ` (Hu et al. 2021, section 4.1).
    pub(super) fn linear(&self, site: Site, y: &mut [f32], x: &[f32], rows: usize, write: Write, scratch: &mut LowScratch) {
        let (weight, bias, dims) = self.site(site, rows);
        match self.frozen.get(&weight.start) {
            Some(matrix) => linear::forward_frozen(y, x, matrix, dims, write, &mut scratch.panel),
            None => linear::forward(y, x, &self.params[weight.clone()], dims, write),
        }
        if !bias.is_empty() {
            for row in y[..rows * dims.outputs].chunks_exact_mut(dims.outputs) {
                crate::ops::vector::add(row, &self.params[bias.clone()]);
            }
        }
        for (low, place) in self.places(site) {
            let down = low.project(scratch, place, x, dims);
            let out = MatMut::strided(&mut y[place.outputs.start..], rows, place.outputs.len(), dims.outputs);
            let b = Mat::new(&low.data[place.b.clone()], place.outputs.len(), low.rank);
            matmul(self.precision, out, Mat::new(down, rows, low.rank), b.t(), low.scale, Write::Add);
        }
    }

    /// The gradient of the input, set or added, and those of what is trained.
    pub(super) fn linear_backward(
        &self,
        site: Site,
        (dy, x): (&[f32], &[f32]),
        (dx, write): (&mut [f32], Write),
        rows: usize,
        sink: &mut Sink<'_>,
        scratch: &mut LowScratch,
    ) {
        let (weight, bias, dims) = self.site(site, rows);
        match self.frozen.get(&weight.start) {
            Some(matrix) => linear::backward_input_frozen(dx, dy, matrix, dims, write, &mut scratch.panel),
            None => linear::backward_input(dx, dy, &self.params[weight.clone()], dims, write),
        }
        match sink {
            Sink::Parameters(grads) => {
                linear::backward_weight(&mut grads[weight.clone()], dy, x, dims);
                for row in dy[..rows * dims.outputs].chunks_exact(dims.outputs).filter(|_| !bias.is_empty()) {
                    crate::ops::vector::add(&mut grads[bias.clone()], row);
                }
            }
            Sink::Adapter(grads) => {
                for (low, place) in self.places(site) {
                    low.backward(place, (dy, x), dx, dims, grads, scratch);
                }
            }
        }
    }
}

impl Low<'_> {
    /// `x Aᵀ` `[rows, rank]`.
    fn project<'s>(&self, scratch: &'s mut LowScratch, place: &Place, x: &[f32], dims: Dims) -> &'s [f32] {
        let down = fit(&mut scratch.down, dims.rows * self.rank);
        let a = Mat::new(&self.data[place.a.clone()], self.rank, dims.inputs);
        matmul(dims.precision, MatMut::new(down, dims.rows, self.rank), Mat::new(x, dims.rows, dims.inputs), a.t(), 1.0, Write::Set);
        down
    }

    /// Adds the gradients of both factors to `grads`, and that of the input to `dx`.
    fn backward(&self, place: &Place, (dy, x): (&[f32], &[f32]), dx: &mut [f32], d: Dims, grads: &mut [f32], scratch: &mut LowScratch) {
        let (rows, rank, outputs) = (d.rows, self.rank, place.outputs.len());
        self.project(scratch, place, x, d);
        let LowScratch { down, slope, .. } = scratch;
        let dy = Mat::strided(&dy[place.outputs.start..], rows, outputs, d.outputs);
        let slope = fit(slope, rows * rank);
        let b = Mat::new(&self.data[place.b.clone()], outputs, rank);
        matmul(d.precision, MatMut::new(slope, rows, rank), dy, b, self.scale, Write::Set);
        let db = MatMut::new(&mut grads[place.b.clone()], outputs, rank);
        matmul(d.precision, db, dy.t(), Mat::new(down, rows, rank), self.scale, Write::Add);
        let slope = Mat::new(slope, rows, rank);
        let da = MatMut::new(&mut grads[place.a.clone()], rank, d.inputs);
        matmul(d.precision, da, slope.t(), Mat::new(x, rows, d.inputs), 1.0, Write::Add);
        let a = Mat::new(&self.data[place.a.clone()], rank, d.inputs);
        matmul(d.precision, MatMut::new(dx, rows, d.inputs), slope, a, 1.0, Write::Add);
    }
}
