//! A micro-batch on the device.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::operations::REFUSED;
use super::weights::Weights;
use crate::model::{Demand, Model, Packed};
use crate::ops::attention::Span;

/// Queries in one block: what lies above the diagonal block is not computed.
const BLOCK: usize = 1024;

/// What the layers read of a micro-batch besides its rows.
pub(super) struct Input {
    /// `[N]`
    pub tokens: Tensor,
    /// The needed rows `[M]`.
    pub rows: Tensor,
    /// Every token as query.
    pub every: Queries,
    /// The needed rows as queries.
    pub needed: Queries,
}

/// Rows that ask.
pub(super) struct Queries {
    /// Cosines of their positions `[M, 1, D / 2]`.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
    pub blocks: Vec<Block>,
}

/// Some queries of one sequence, and the keys that they can see.
pub(super) struct Block {
    pub queries: Range<usize>,
    /// The keys' rows, in at most two parts: the shared beginning, and the sequence's own.
    parts: Vec<Range<usize>>,
    /// 0 where a query sees a key, [`REFUSED`] where not `[queries, keys]`.
    pub mask: Tensor,
}

impl Input {
    pub(super) fn new(model: &Model, weights: &Weights, packed: &Packed, device: &Device) -> Result<Self> {
        let indices = |x: &[u32]| Tensor::from_slice(x, x.len(), device);
        let queries = |positions: &[u32], spans: &[Span]| {
            let at = indices(positions)?;
            let turn = |table: &Tensor| table.index_select(&at, 0)?.reshape((positions.len(), 1, model.config.head_dim / 2));
            let blocks = spans.iter().flat_map(|span| blocks(span, positions, device)).collect::<Result<_>>()?;
            Ok::<_, candle_core::Error>(Queries { cos: turn(&weights.cos)?, sin: turn(&weights.sin)?, blocks })
        };
        Ok(Self {
            tokens: indices(&packed.tokens)?,
            rows: indices(&packed.rows)?,
            every: queries(&packed.positions, &packed.spans)?,
            needed: queries(&packed.row_positions, &packed.row_spans)?,
        })
    }

    /// The rows that ask in a layer with this demand.
    pub(super) fn asking(&self, demand: Demand) -> &Queries {
        match demand {
            Demand::AllRows => &self.every,
            Demand::NeededRows => &self.needed,
        }
    }
}

/// Cuts a sequence's queries into blocks.
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
                (0..seen).map(move |key| if key < visible { 0.0 } else { REFUSED })
            };
            let mask: Vec<f32> = positions[queries.clone()].iter().flat_map(sees).collect();
            Ok(Block { mask: Tensor::from_vec(mask, (queries.len(), seen), device)?, queries, parts })
        })
        .collect()
}

impl Block {
    /// The visible rows of keys or values.
    pub(super) fn keys(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self.parts.iter().map(|part| x.narrow(0, part.start, part.len())).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)
    }
}
