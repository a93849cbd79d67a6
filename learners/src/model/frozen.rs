//! How the linear weights of a frozen model are kept: single precision, bf16, or GGML's Q8_0.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Params;
use crate::{Error, Result};

/// Weights of one scale in Q8_0.
const BLOCK: usize = 32;

/// What the linear weights of a frozen model are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Four bytes a weight.
    #[default]
    F32,
    /// Two bytes a weight.
    Bf16,
    /// Blocks of 32 with one f16 scale: 1.06 bytes a weight.
    Q8_0,
}

/// Linear weights by where they begin in the layout.
pub(crate) type FrozenMatrices = BTreeMap<usize, Matrix>;

/// The weights of one product, row after row.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    Bf16(Vec<u16>),
    Q8 { quants: Vec<i8>, scales: Vec<u16> },
}

impl Matrix {
    fn new(weights: &[f32], storage: Storage) -> Self {
        match storage {
            Storage::Q8_0 => {
                let blocks: Vec<(u16, [i8; BLOCK])> = weights.as_chunks::<BLOCK>().0.par_iter().map(quantised).collect();
                let (scales, quants): (Vec<u16>, Vec<[i8; BLOCK]>) = blocks.into_iter().unzip();
                Self::Q8 { quants: quants.into_flattened(), scales }
            }
            Storage::F32 | Storage::Bf16 => Self::Bf16(weights.iter().map(|w| to_bf16(*w)).collect()),
        }
    }

    /// Writes the weights `range` in single precision.
    pub(crate) fn expand(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Bf16(weights) => {
                for (out, bits) in out.iter_mut().zip(&weights[range]) {
                    *out = f32::from_bits(u32::from(*bits) << 16);
                }
            }
            Self::Q8 { quants, scales } => {
                let blocks = range.start / BLOCK..range.end / BLOCK;
                let quants = quants[range].as_chunks::<BLOCK>().0;
                for ((out, quants), scale) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(quants).zip(&scales[blocks]) {
                    let scale = from_f16(*scale);
                    for (out, quant) in out.iter_mut().zip(quants) {
                        *out = scale * f32::from(*quant);
                    }
                }
            }
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bf16(weights) => 2 * weights.len(),
            Self::Q8 { quants, scales } => quants.len() + 2 * scales.len(),
        }
    }
}

impl Params {
    /// Keeps the linear weights in `storage` from now on; they cannot be trained then, only adapters beside them.
    ///
    /// # Errors
    /// Q8_0 for a width that is no multiple of 32.
    pub(crate) fn freeze(&mut self, storage: Storage) -> Result<()> {
        if storage == Storage::F32 || !self.frozen.is_empty() {
            return Ok(());
        }
        let ranges = self.layout.layers.iter().flat_map(|at| [&at.q, &at.kv, &at.o, &at.gate_up, &at.down]);
        if storage == Storage::Q8_0 && self.layout.tensors.iter().any(|t| t.range.start >= self.layout.matrices && t.shape[1] % BLOCK != 0)
        {
            return Err(Error::Config { key: "base", problem: format!("q8_0 needs widths that are multiples of {BLOCK}; use bf16") });
        }
        self.frozen = ranges.map(|range| (range.start, Matrix::new(&self.data[range.clone()], storage))).collect();
        self.data.truncate(self.layout.matrices);
        self.data.shrink_to_fit();
        Ok(())
    }

    /// Refuses parameters whose linear weights are kept in a smaller type.
    pub(crate) fn check_whole(&self) -> Result<()> {
        match self.frozen.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::Config { key: "base", problem: "the weights are kept in a smaller type; load the model again in f32".into() })
            }
        }
    }

    /// Bytes that the linear weights take.
    pub fn linear_bytes(&self) -> usize {
        match self.frozen.is_empty() {
            true => 4 * (self.layout.len() - self.layout.matrices),
            false => self.frozen.values().map(Matrix::bytes).sum(),
        }
    }
}

/// Scale and quants of a block as GGML has them: the largest magnitude becomes 127.
fn quantised(block: &[f32; BLOCK]) -> (u16, [i8; BLOCK]) {
    let largest = block.iter().fold(0.0f32, |a, w| a.max(w.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (to_f16(scale), block.map(|w| (w * inverse).round() as i8))
}

/// The nearest bf16, ties to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The nearest f16, ties to even, for numbers that are not negative; too small ones become subnormal or 0.
fn to_f16(x: f32) -> u16 {
    const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
    if x < SMALLEST_NORMAL {
        // A unit of the last place is 2^-24 there.
        return (x * 16_777_216.0).round_ties_even() as u16;
    }
    let bits = x.to_bits() - (112 << 23);
    ((bits + 0xfff + ((bits >> 13) & 1)) >> 13).min(0x7c00) as u16
}

fn from_f16(bits: u16) -> f32 {
    if bits < 0x400 {
        return f32::from(bits) / 16_777_216.0;
    }
    f32::from_bits((u32::from(bits) << 13) + (112 << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn f16_and_bf16_are_the_nearest() {
        for (x, bits) in [(1.0, 0x3c00), (0.5, 0x3800), (6.103_515_6e-5, 0x0400), (5.960_464_5e-8, 1), (0.0, 0), (65_504.0, 0x7bff)] {
            assert_eq!(to_f16(x), bits, "{x}");
            assert_eq!(from_f16(bits), x);
        }
        assert!((from_f16(to_f16(0.123_45)) - 0.123_45).abs() < 0.123_45 / 2048.0);
        assert_eq!((to_bf16(1.0), to_bf16(-2.5)), (0x3f80, 0xc020));
    }

    #[test]
    fn a_matrix_comes_back_to_its_rounding() {
        let weights = random(96 * 4, 3);
        for (storage, tolerance, bytes) in [(Storage::Bf16, 1.0 / 256.0, 768), (Storage::Q8_0, 1.0 / 127.0, 408)] {
            let matrix = Matrix::new(&weights, storage);
            let mut out = vec![0.0; 192];
            matrix.expand(96..288, &mut out);
            let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
            assert!(out.iter().zip(&weights[96..288]).all(|(a, b)| (a - b).abs() <= largest * tolerance), "{storage:?}");
            assert_eq!(matrix.bytes(), bytes);
        }
    }
}
