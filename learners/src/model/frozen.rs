//! How the linear weights of a frozen model are kept: single precision, bf16, or GGML's Q8_0 and Q4_K.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Params, Tensor, q4k};
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
    /// Blocks of 256 with eight scales and offsets of six bits: 0.56 bytes a weight.
    Q4K,
}

impl Storage {
    /// Weights of a row that are kept together.
    fn block(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 1,
            Self::Q8_0 => BLOCK,
            Self::Q4K => q4k::BLOCK,
        }
    }

    /// Refuses rows that are not whole blocks.
    fn check(self, tensors: &[Tensor]) -> Result<()> {
        let block = self.block();
        let Some(odd) = tensors.iter().find(|tensor| tensor.shape[1] % block != 0) else { return Ok(()) };
        let (name, wanted, width) = if self == Self::Q4K { ("q4_k", "q8_0 or bf16", odd.shape[1]) } else { ("q8_0", "bf16", odd.shape[1]) };
        let problem = format!("{name} needs widths that are multiples of {block}, and `{}` is {width} wide; use {wanted}", odd.name);
        Err(Error::Config { key: "base", problem })
    }
}

/// Linear weights by where they begin in the layout.
pub(crate) type FrozenMatrices = BTreeMap<usize, Matrix>;

/// The weights of one product, row after row.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    Bf16(Vec<u16>),
    Q8 { quants: Vec<i8>, scales: Vec<u16> },
    Q4(Vec<q4k::Block>),
}

impl Matrix {
    fn new(weights: &[f32], storage: Storage) -> Self {
        match storage {
            Storage::Q8_0 => {
                let blocks: Vec<(u16, [i8; BLOCK])> = weights.as_chunks::<BLOCK>().0.par_iter().map(quantised).collect();
                let (scales, quants): (Vec<u16>, Vec<[i8; BLOCK]>) = blocks.into_iter().unzip();
                Self::Q8 { quants: quants.into_flattened(), scales }
            }
            Storage::Q4K => Self::Q4(weights.as_chunks().0.par_iter().map(q4k::Block::of).collect()),
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
            Self::Q4(blocks) => {
                let blocks = &blocks[range.start / q4k::BLOCK..range.end / q4k::BLOCK];
                out.as_chunks_mut().0.iter_mut().zip(blocks).for_each(|(out, block)| block.expand(out));
            }
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bf16(weights) => 2 * weights.len(),
            Self::Q8 { quants, scales } => quants.len() + 2 * scales.len(),
            Self::Q4(blocks) => size_of_val(&blocks[..]),
        }
    }
}

impl Params {
    /// Keeps the linear weights in `storage` from now on; they cannot be trained then, only adapters beside them.
    ///
    /// # Errors
    /// Q8_0 for a width that is no multiple of 32, Q4_K for one that is none of 256.
    pub(crate) fn freeze(&mut self, storage: Storage) -> Result<()> {
        if storage == Storage::F32 || !self.frozen.is_empty() {
            return Ok(());
        }
        let matrices = self.layout.tensors.iter().position(|tensor| tensor.range.start >= self.layout.matrices);
        storage.check(matrices.map_or(&[], |first| &self.layout.tensors[first..]))?;
        let ranges = self.layout.layers.iter().flat_map(|at| [&at.q, &at.kv, &at.o, &at.gate_up, &at.down]);
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
pub(super) fn to_f16(x: f32) -> u16 {
    const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
    if x < SMALLEST_NORMAL {
        // A unit of the last place is 2^-24 there.
        return (x * 16_777_216.0).round_ties_even() as u16;
    }
    let bits = x.to_bits() - (112 << 23);
    ((bits + 0xfff + ((bits >> 13) & 1)) >> 13).min(0x7c00) as u16
}

pub(super) fn from_f16(bits: u16) -> f32 {
    if bits < 0x400 {
        return f32::from(bits) / 16_777_216.0;
    }
    f32::from_bits((u32::from(bits) << 13) + (112 << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, Fresh, LoraConfig};
    use crate::model::{Model, Packed, Workspace};
    use crate::testing::random;
    use crate::{Precision, Sequence};

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
        let weights = random(512 * 3, 3);
        for (storage, tolerance, bytes) in
            [(Storage::Bf16, 1.0 / 256.0, 3072), (Storage::Q8_0, 1.0 / 127.0, 1632), (Storage::Q4K, 1.0 / 12.0, 864)]
        {
            let matrix = Matrix::new(&weights, storage);
            let mut out = vec![0.0; 512];
            matrix.expand(512..1024, &mut out);
            let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
            assert!(out.iter().zip(&weights[512..]).all(|(a, b)| (a - b).abs() <= largest * tolerance), "{storage:?}");
            assert_eq!(matrix.bytes(), bytes);
        }
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_refused_by_name() {
        let config =
            crate::ModelConfig { hidden_size: 256, intermediate_size: 288, num_hidden_layers: 1, ..crate::ModelConfig::seed(8, 0, 1) };
        for (intermediate_size, storage, reason) in [
            (288, Storage::Q8_0, None),
            (256, Storage::Q4K, None),
            (288, Storage::Q4K, Some("multiples of 256, and `model.layers.0.mlp.down_proj.weight` is 288 wide; use q8_0 or bf16")),
            (272, Storage::Q8_0, Some("multiples of 32, and `model.layers.0.mlp.down_proj.weight` is 272 wide; use bf16")),
        ] {
            let mut params = Params::random(&crate::ModelConfig { intermediate_size, ..config.clone() }, 1);
            match (params.freeze(storage), reason) {
                (Ok(()), None) => {}
                (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
                (result, _) => panic!("{storage:?}, {intermediate_size}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_weights_that_are_read() {
        let config = crate::ModelConfig { intermediate_size: 256, num_hidden_layers: 2, ..crate::ModelConfig::seed(40, 0, 1) };
        let mut whole = Model::random(config, 5).unwrap();
        whole.precision = Precision::F32;
        whole.adapter = Some(Adapter::fresh(LoraConfig { rank: 4, ..Default::default() }, &whole.config, 2, Fresh::Random).unwrap());
        let sequence = Sequence { tokens: (0..30).map(|i| i * 13 % 37).collect(), weights: vec![1.0; 30], ..Default::default() };
        let mut packed = Packed::default();
        packed.push(0, &sequence);
        let gradient = |model: &Model| {
            let mut grads = vec![0.0; model.trained().len()];
            model.forward_backward(&packed, &mut Workspace::default(), &mut grads);
            grads
        };
        let mut small = whole.clone();
        small.freeze(Storage::Q4K).unwrap();
        let share = small.params.linear_bytes() as f64 / whole.params.linear_bytes() as f64;
        assert!((share - 0.1406).abs() < 1e-4, "{share}");
        let (got, exact) = (gradient(&small), gradient(&whole));
        for at in &whole.params.layout.layers {
            for range in [&at.q, &at.kv, &at.o, &at.gate_up, &at.down] {
                small.params.frozen[&range.start].expand(0..range.len(), &mut whole.params.data[range.clone()]);
            }
        }
        let want = gradient(&whole);
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let off = |a: &[f32]| norm(&mut a.iter().zip(&want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied());
        assert!(off(&got) < 1e-5 && off(&exact) > 1e-3, "{} {}", off(&got), off(&exact));
    }
}
