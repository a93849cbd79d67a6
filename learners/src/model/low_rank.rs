//! The low-rank adapters beside the linear layers of one transformer layer (Hu et al. 2021).

use std::ops::Range;

use crate::ops::fit;
use crate::ops::linear::Dims;
use crate::ops::matmul::{Mat, MatMut, Write, matmul};

/// A linear layer by its role in a transformer layer. Keys and values are computed by one product, and so are the gate and up projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Q,
    Kv,
    O,
    GateUp,
    Down,
}

/// One adapter module: the outputs of a projection that it adds to, and where its two factors lie in the adapter's flat slice.
#[derive(Clone, Debug)]
pub(crate) struct LoraModule {
    pub projection: Projection,
    /// The columns of the projection's output that the update is added to.
    pub outputs: Range<usize>,
    /// The range of `A` `[rank, inputs]`.
    pub a: Range<usize>,
    /// The range of `B` `[outputs, rank]`.
    pub b: Range<usize>,
}

/// The adapter modules of one transformer layer.
#[derive(Clone, Copy)]
pub(crate) struct LayerAdapter<'a> {
    pub modules: &'a [LoraModule],
    /// The numbers of the whole adapter.
    pub data: &'a [f32],
    pub rank: usize,
    /// The factor that the update is scaled by.
    pub scale: f32,
}

/// Buffers for the products with the low-rank factors.
#[derive(Default)]
pub(crate) struct LowRankScratch {
    /// `x Aᵀ` `[rows, rank]`.
    down: Vec<f32>,
    /// The gradient of `x Aᵀ` `[rows, rank]`.
    d_down: Vec<f32>,
}

impl<'a> LayerAdapter<'a> {
    /// Returns the modules beside one projection.
    pub(super) fn of(self, projection: Projection) -> impl Iterator<Item = &'a LoraModule> {
        self.modules.iter().filter(move |module| module.projection == projection)
    }

    /// Adds a module's update `scale · (x Aᵀ) Bᵀ` to its columns of the projection's output `y` (Hu et al. 2021, section 4.1).
    pub(super) fn forward(&self, module: &LoraModule, x: &[f32], y: &mut [f32], dims: Dims, scratch: &mut LowRankScratch) {
        let down = self.project_down(scratch, module, x, dims);
        let out = MatMut::strided(&mut y[module.outputs.start..], dims.rows, module.outputs.len(), dims.outputs);
        let b = Mat::new(&self.data[module.b.clone()], module.outputs.len(), self.rank);
        matmul(dims.precision, out, Mat::new(down, dims.rows, self.rank), b.t(), self.scale, Write::Add);
    }

    /// Adds the gradients of a module's factors to `grads`, and the gradient of its input to `dx`.
    pub(super) fn backward(
        &self,
        module: &LoraModule,
        (dy, x): (&[f32], &[f32]),
        dx: &mut [f32],
        dims: Dims,
        grads: &mut [f32],
        scratch: &mut LowRankScratch,
    ) {
        let (rows, rank, outputs) = (dims.rows, self.rank, module.outputs.len());
        self.project_down(scratch, module, x, dims);
        let LowRankScratch { down, d_down } = scratch;
        let dy = Mat::strided(&dy[module.outputs.start..], rows, outputs, dims.outputs);
        let d_down = fit(d_down, rows * rank);
        let b = Mat::new(&self.data[module.b.clone()], outputs, rank);
        matmul(dims.precision, MatMut::new(d_down, rows, rank), dy, b, self.scale, Write::Set);
        let db = MatMut::new(&mut grads[module.b.clone()], outputs, rank);
        matmul(dims.precision, db, dy.t(), Mat::new(down, rows, rank), self.scale, Write::Add);
        let d_down = Mat::new(d_down, rows, rank);
        let da = MatMut::new(&mut grads[module.a.clone()], rank, dims.inputs);
        matmul(dims.precision, da, d_down.t(), Mat::new(x, rows, dims.inputs), 1.0, Write::Add);
        let a = Mat::new(&self.data[module.a.clone()], rank, dims.inputs);
        matmul(dims.precision, MatMut::new(dx, rows, dims.inputs), d_down, a, 1.0, Write::Add);
    }

    /// Computes `x Aᵀ` `[rows, rank]` into the scratch buffer.
    fn project_down<'s>(&self, scratch: &'s mut LowRankScratch, module: &LoraModule, x: &[f32], dims: Dims) -> &'s [f32] {
        let down = fit(&mut scratch.down, dims.rows * self.rank);
        let a = Mat::new(&self.data[module.a.clone()], self.rank, dims.inputs);
        matmul(dims.precision, MatMut::new(down, dims.rows, self.rank), Mat::new(x, dims.rows, dims.inputs), a.t(), 1.0, Write::Set);
        down
    }
}
