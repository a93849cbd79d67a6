//! The read-only state that one layer is computed with.

use std::ops::Range;

use super::ModelConfig;
use super::low_rank::LayerAdapter;
use super::packed::{OutputRows, Packed};
use super::params::{FrozenMatrices, LayerRanges};
use crate::ops::attention::Span;
use crate::ops::matmul::Precision;
use crate::ops::rope::RopeTable;

/// Everything that a layer reads, besides its input.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub config: &'a ModelConfig,
    pub rope: &'a RopeTable,
    pub packed: &'a Packed,
    /// The parameters of the whole model.
    pub params: &'a [f32],
    /// The linear weights that are stored in a compact format.
    pub frozen: &'a FrozenMatrices,
    /// The ranges of this layer's tensors in the parameters.
    pub ranges: &'a LayerRanges,
    /// The adapter modules beside this layer.
    pub adapter: Option<LayerAdapter<'a>>,
    /// The rows of this layer's output that are needed.
    pub output_rows: OutputRows,
    /// The precision of matrix products.
    pub precision: Precision,
}

impl<'a> Context<'a> {
    /// Returns the positions of this layer's query rows, and their spans.
    pub fn queries(&self) -> (&'a [u32], &'a [Span]) {
        match self.output_rows {
            OutputRows::All => (&self.packed.positions, &self.packed.spans),
            OutputRows::Needed => (&self.packed.row_positions, &self.packed.row_spans),
        }
    }

    /// Returns the parameters in a range.
    pub fn weight(&self, range: &Range<usize>) -> &'a [f32] {
        &self.params[range.clone()]
    }
}
