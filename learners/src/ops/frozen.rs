//! Storage of the linear weights of a frozen model: single precision, bf16, or GGML's Q8_0 and Q4_K.

use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::q4k;

/// The number of weights in a Q8_0 block, which share one scale.
const Q8_BLOCK: usize = 32;

/// The number format that the linear weights of a frozen model are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Single precision: four bytes a weight.
    #[default]
    F32,
    /// bf16: two bytes a weight.
    Bf16,
    /// Blocks of 32 weights with one f16 scale: 1.06 bytes a weight.
    Q8_0,
    /// Blocks of 256 weights with eight scales and offsets of six bits: 0.56 bytes a weight.
    Q4K,
}

impl Storage {
    /// Returns the number of neighbouring weights of a row that are stored as one block; rows must be whole blocks.
    pub(crate) fn block(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 1,
            Self::Q8_0 => Q8_BLOCK,
            Self::Q4K => q4k::BLOCK,
        }
    }
}

/// A frozen weight matrix in a compact number format, row after row.
#[derive(Clone, Debug)]
pub(crate) enum FrozenMatrix {
    Bf16(Vec<bf16>),
    Q8 { quants: Vec<i8>, scales: Vec<f16> },
    Q4(Vec<q4k::Block>),
}

impl FrozenMatrix {
    /// Converts weights to `storage`; [`Storage::F32`] is stored as bf16, since single precision is not a compact format.
    pub(crate) fn new(weights: &[f32], storage: Storage) -> Self {
        match storage {
            Storage::Q8_0 => {
                let blocks: Vec<(f16, [i8; Q8_BLOCK])> = weights.as_chunks::<Q8_BLOCK>().0.par_iter().map(quantise_q8).collect();
                let (scales, quants): (Vec<f16>, Vec<[i8; Q8_BLOCK]>) = blocks.into_iter().unzip();
                Self::Q8 { quants: quants.into_flattened(), scales }
            }
            Storage::Q4K => Self::Q4(weights.as_chunks().0.par_iter().map(q4k::Block::quantise).collect()),
            Storage::F32 | Storage::Bf16 => Self::Bf16(weights.iter().map(|weight| bf16::from_f32(*weight)).collect()),
        }
    }

    /// Writes the weights `range` to `out` in single precision.
    pub(crate) fn expand(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Bf16(weights) => {
                for (out, weight) in out.iter_mut().zip(&weights[range]) {
                    *out = weight.to_f32();
                }
            }
            Self::Q8 { quants, scales } => {
                let blocks = range.start / Q8_BLOCK..range.end / Q8_BLOCK;
                let quants = quants[range].as_chunks::<Q8_BLOCK>().0;
                for ((out, quants), scale) in out.as_chunks_mut::<Q8_BLOCK>().0.iter_mut().zip(quants).zip(&scales[blocks]) {
                    let scale = scale.to_f32();
                    for (out, quant) in out.iter_mut().zip(quants) {
                        *out = scale * f32::from(*quant);
                    }
                }
            }
            Self::Q4(blocks) => {
                let blocks = &blocks[range.start / q4k::BLOCK..range.end / q4k::BLOCK];
                out.as_chunks_mut().0.iter_mut().zip(blocks).for_each(|(out, block)| block.expand(out));
            }
        }
    }

    /// Returns the size of the stored weights in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bf16(weights) => 2 * weights.len(),
            Self::Q8 { quants, scales } => quants.len() + 2 * scales.len(),
            Self::Q4(blocks) => size_of_val(&blocks[..]),
        }
    }
}

/// Quantises a block as GGML does in Q8_0: returns its scale, and its weights in units of the scale; the largest magnitude becomes 127.
fn quantise_q8(block: &[f32; Q8_BLOCK]) -> (f16, [i8; Q8_BLOCK]) {
    let largest = block.iter().fold(0.0f32, |a, w| a.max(w.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (f16::from_f32(scale), block.map(|w| (w * inverse).round() as i8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// The conversions of the crate `half` round to nearest, ties to even, as GGML's do; stored quantised models depend on that.
    #[test]
    fn f16_and_bf16_are_the_nearest() {
        for (x, bits) in [(1.0, 0x3c00), (0.5, 0x3800), (6.103_515_6e-5, 0x0400), (5.960_464_5e-8, 1), (0.0, 0), (65_504.0, 0x7bff)] {
            assert_eq!(f16::from_f32(x).to_bits(), bits, "{x}");
            assert_eq!(f16::from_bits(bits).to_f32(), x);
        }
        assert!((f16::from_f32(0.123_45).to_f32() - 0.123_45).abs() < 0.123_45 / 2048.0);
        assert_eq!((bf16::from_f32(1.0).to_bits(), bf16::from_f32(-2.5).to_bits()), (0x3f80, 0xc020));
    }

    #[test]
    fn a_matrix_comes_back_to_its_rounding() {
        let weights = random(512 * 3, 3);
        for (storage, tolerance, bytes) in
            [(Storage::Bf16, 1.0 / 256.0, 3072), (Storage::Q8_0, 1.0 / 127.0, 1632), (Storage::Q4K, 1.0 / 12.0, 864)]
        {
            let matrix = FrozenMatrix::new(&weights, storage);
            let mut out = vec![0.0; 512];
            matrix.expand(512..1024, &mut out);
            let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
            assert!(out.iter().zip(&weights[512..]).all(|(a, b)| (a - b).abs() <= largest * tolerance), "{storage:?}");
            assert_eq!(matrix.bytes(), bytes);
        }
    }
}
