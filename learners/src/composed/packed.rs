//! The inputs of a micro-batch, copied to the device.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::operations::MASKED;
use super::weights::Weights;
use crate::model::{Model, OutputRows, Packed};
use crate::ops::attention::Span;

/// The number of queries in one block; scores above the diagonal block are not computed.
const BLOCK: usize = 1024;

/// The inputs of a micro-batch that every layer reads.
pub(super) struct Input {
    /// The tokens `[N]`.
    pub tokens: Tensor,
    /// The indices of the needed rows among the tokens `[M]`.
    pub rows: Tensor,
    /// The query rows of a layer that computes every token.
    every: Queries,
    /// The query rows of the last layer, which computes the needed rows only.
    needed: Queries,
}

/// The query rows of a layer.
pub(super) struct Queries {
    /// The cosines of the rotation angles of the queries' positions `[M, 1, D / 2]`.
    pub cos: Tensor,
    /// The sines of the same angles.
    pub sin: Tensor,
    pub blocks: Vec<Block>,
}

/// A block of queries of one sequence, and the keys that it can see.
pub(super) struct Block {
    pub queries: Range<usize>,
    /// The rows of the keys, in at most two parts: the shared prefix and the sequence's own tokens.
    parts: Vec<Range<usize>>,
    /// The mask `[queries, keys]`: 0 if a query can see a key, [`MASKED`] otherwise.
    pub mask: Tensor,
}

impl Input {
    /// Copies the inputs of a micro-batch to the device.
    pub(super) fn new(model: &Model, weights: &Weights, packed: &Packed, device: &Device) -> Result<Self> {
        let indices = |x: &[u32]| Tensor::from_slice(x, x.len(), device);
        let queries = |positions: &[u32], spans: &[Span]| {
            let at = indices(positions)?;
            let rotations = |table: &Tensor| table.index_select(&at, 0)?.reshape((positions.len(), 1, model.config.head_dim / 2));
            let blocks = spans.iter().flat_map(|span| blocks(span, positions, device)).collect::<Result<_>>()?;
            Ok::<_, candle_core::Error>(Queries { cos: rotations(&weights.cos)?, sin: rotations(&weights.sin)?, blocks })
        };
        Ok(Self {
            tokens: indices(&packed.tokens)?,
            rows: indices(&packed.rows)?,
            every: queries(&packed.positions, &packed.spans)?,
            needed: queries(&packed.row_positions, &packed.row_spans)?,
        })
    }

    /// Returns the query rows of a layer whose `output_rows` are needed.
    pub(super) fn queries(&self, output_rows: OutputRows) -> &Queries {
        match output_rows {
            OutputRows::All => &self.every,
            OutputRows::Needed => &self.needed,
        }
    }
}

/// Cuts the queries of a sequence into blocks.
pub(super) fn blocks(span: &Span, positions: &[u32], device: &Device) -> Vec<Result<Block>> {
    let starts = span.queries.clone().step_by(BLOCK);
    starts
        .map(|start| {
            let queries = start..(start + BLOCK).min(span.queries.end);
            let seen = positions[queries.end - 1] as usize + 1;
            let shared = span.prefix.len().min(seen);
            let parts = [(span.prefix.start, shared), (span.keys.start, seen - shared)];
            let parts = parts.into_iter().filter(|(_, len)| *len > 0).map(|(start, len)| start..start + len).collect();
            let sees = |position: &u32| {
                let visible = *position as usize + 1;
                (0..seen).map(move |key| if key < visible { 0.0 } else { MASKED })
            };
            let mask: Vec<f32> = positions[queries.clone()].iter().flat_map(sees).collect();
            Ok(Block { mask: Tensor::from_vec(mask, (queries.len(), seen), device)?, queries, parts })
        })
        .collect()
}

impl Block {
    /// Returns the rows of a matrix of keys or values that the block can see.
    pub(super) fn visible_rows(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.parts.iter().map(|part| x.narrow(0, part.start, part.len())).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)
    }
}
