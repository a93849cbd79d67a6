//! GGML's Q4_K quantisation: blocks of 256 weights in eight groups of 32. A group has a scale and an offset of six bits each, a weight has
//! four bits.

use std::array::from_fn;

use half::f16;

/// The number of weights in a block.
pub(super) const BLOCK: usize = 256;

/// The number of weights in a group, which share one scale and one offset.
const GROUP: usize = 32;
/// The largest quantised weight: four bits.
const MAX_QUANT: f32 = 15.0;
/// The largest quantised scale or offset: six bits.
const MAX_FACTOR: f32 = 63.0;
/// The number of scales that are tried for a group: from `MAX_QUANT - 1` to `MAX_QUANT + 1` steps over its range of values.
const TRIES: usize = 20;

/// A block, byte for byte as GGML stores it (`block_q4_K`).
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Block {
    /// The scale of the groups' quantised scales.
    scale: f16,
    /// The scale of the groups' quantised offsets.
    offset: f16,
    /// The quantised scales and offsets of the groups, six bits each.
    factors: [u8; 12],
    /// The quantised weights, two a byte: the low bits belong to the first 32 of each 64 weights, the high bits to the second 32.
    quants: [u8; BLOCK / 2],
}

/// The dequantisation of a group: a weight is `scale * quant - offset`.
#[derive(Clone, Copy)]
struct Affine {
    scale: f32,
    offset: f32,
}

impl Block {
    /// Quantises a block of weights (GGML's `quantize_row_q4_K_ref`).
    pub fn quantise(weights: &[f32; BLOCK]) -> Self {
        let groups = weights.as_chunks::<GROUP>().0;
        let fitted: [Affine; 8] = from_fn(|g| fit(&groups[g]));
        let top = |part: fn(&Affine) -> f32| fitted.iter().map(part).fold(0.0, f32::max);
        let (scale, offset) = (top(|affine| affine.scale), top(|affine| affine.offset));
        let quantise = |x: f32, top: f32| if top > 0.0 { (MAX_FACTOR / top * x).round_ties_even().clamp(0.0, MAX_FACTOR) as u8 } else { 0 };
        let factors = pack_factors(fitted.map(|affine| (quantise(affine.scale, scale), quantise(affine.offset, offset))));
        let mut block =
            Self { scale: f16::from_f32(scale / MAX_FACTOR), offset: f16::from_f32(offset / MAX_FACTOR), factors, quants: [0; BLOCK / 2] };
        for (g, group) in groups.iter().enumerate() {
            let affine = block.affine(g);
            if affine.scale > 0.0 {
                let quants = group.map(|w| ((w + affine.offset) / affine.scale).round_ties_even().clamp(0.0, MAX_QUANT) as u8);
                let bytes = &mut block.quants[g / 2 * GROUP..][..GROUP];
                bytes.iter_mut().zip(quants).for_each(|(byte, quant)| *byte |= quant << (4 * (g % 2)));
            }
        }
        block
    }

    /// Writes the weights to `out` in single precision.
    pub fn expand(&self, out: &mut [f32; BLOCK]) {
        for (g, group) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let (Affine { scale, offset }, shift) = (self.affine(g), 4 * (g % 2));
            for (out, byte) in group.iter_mut().zip(&self.quants[g / 2 * GROUP..]) {
                *out = scale * f32::from(byte >> shift & 15) - offset;
            }
        }
    }

    /// Unpacks the scale and offset of group `g`. The scales and offsets of the first four groups are the low six bits of bytes 0 to 7.
    /// Those of the other four groups are split: the last four bytes hold their low four bits, and the two high bits of bytes 0 to 7 hold
    /// the rest.
    fn affine(&self, g: usize) -> Affine {
        let f = &self.factors;
        let (scale, offset) = match g {
            0..4 => (f[g] & 63, f[g + 4] & 63),
            _ => (f[g + 4] & 15 | f[g - 4] >> 6 << 4, f[g + 4] >> 4 | f[g] >> 6 << 4),
        };
        Affine { scale: self.scale.to_f32() * f32::from(scale), offset: self.offset.to_f32() * f32::from(offset) }
    }
}

/// Packs the quantised scales and offsets as [`Block::affine`] unpacks them.
fn pack_factors(units: [(u8, u8); 8]) -> [u8; 12] {
    let mut factors = [0; 12];
    for g in 0..4 {
        let ((scale, offset), (late_scale, late_offset)) = (units[g], units[g + 4]);
        factors[g] = scale | late_scale >> 4 << 6;
        factors[g + 4] = offset | late_offset >> 4 << 6;
        factors[g + 8] = late_scale & 15 | (late_offset & 15) << 4;
    }
    factors
}

/// Finds the scale and offset of a group with the least squared error, weighted so that large weights count more (GGML's
/// `make_qkx2_quants`).
///
/// For each of several scales the weights are quantised, and scale and offset are fitted to these quants; an offset below 0 is not allowed.
fn fit(group: &[f32; GROUP]) -> Affine {
    let least = group.iter().fold(0.0f32, |a, w| a.min(*w));
    let width = group.iter().fold(f32::MIN, |a, w| a.max(*w)) - least;
    if width <= 0.0 {
        return Affine { scale: 0.0, offset: -least };
    }
    let typical = (group.iter().map(|w| w * w).sum::<f32>() / GROUP as f32).sqrt();
    let importance = group.map(|w| typical + w.abs());
    let quantised = |levels: f32| group.map(|w| (levels / width * (w - least)).round_ties_even().clamp(0.0, MAX_QUANT));
    let error = |affine: Affine, quants: &[f32; GROUP]| -> f32 {
        (0..GROUP).map(|i| importance[i] * (affine.scale * quants[i] - affine.offset - group[i]).powi(2)).sum()
    };
    let mut best = Affine { scale: width / MAX_QUANT, offset: -least };
    let mut least_error = error(best, &quantised(MAX_QUANT));
    for step in 0..=TRIES {
        let quants = quantised(MAX_QUANT - 1.0 + 0.1 * step as f32);
        if let Some(affine) = regression(&quants, group, &importance) {
            let error = error(affine, &quants);
            if error < least_error {
                (best, least_error) = (affine, error);
            }
        }
    }
    best
}

/// Fits weights to their quants by weighted least squares, with an offset of 0 where it would be below 0. Returns `None` if all quants are
/// equal.
fn regression(quants: &[f32; GROUP], group: &[f32; GROUP], importance: &[f32; GROUP]) -> Option<Affine> {
    let sum = |f: &dyn Fn(usize) -> f32| (0..GROUP).map(|i| importance[i] * f(i)).sum::<f32>();
    let (n, x, y) = (sum(&|_| 1.0), sum(&|i| quants[i]), sum(&|i| group[i]));
    let (xx, xy) = (sum(&|i| quants[i] * quants[i]), sum(&|i| quants[i] * group[i]));
    let determinant = n * xx - x * x;
    if determinant <= 0.0 {
        return None;
    }
    let affine = Affine { scale: (n * xy - x * y) / determinant, offset: (x * xy - xx * y) / determinant };
    Some(if affine.offset < 0.0 { Affine { scale: xy / xx, offset: 0.0 } } else { affine })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// Blocks of random bytes expand to the weights that the Python package `gguf` reads in them (`tests/golden/q4k.py`).
    #[test]
    fn blocks_are_read_as_gguf_reads_them() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/q4k.safetensors");
        let raw = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&raw).unwrap();
        let (bytes, want) = (file.tensor("blocks").unwrap(), file.tensor("weights").unwrap());
        let (blocks, weights) = (bytes.data().as_chunks::<144>().0, want.data().as_chunks::<4>().0.as_chunks::<BLOCK>().0);
        assert!(blocks.len() == 12 && weights.len() == 12);
        for (bytes, want) in blocks.iter().zip(weights) {
            let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
            let block = Block {
                scale: half(0),
                offset: half(2),
                factors: bytes[4..16].try_into().unwrap(),
                quants: bytes[16..].try_into().unwrap(),
            };
            let mut got = [0.0; BLOCK];
            block.expand(&mut got);
            assert_eq!(got, want.map(f32::from_le_bytes));
        }
    }

    #[test]
    fn a_block_is_as_large_as_ggmls_and_its_factors_come_back() {
        assert_eq!(size_of::<Block>(), 144);
        let units: [(u8, u8); 8] = from_fn(|g| (63 - 7 * g as u8, 9 * g as u8));
        // The scales of scales and offsets are 1, so that the unpacked numbers are the quantised ones.
        let block = Block { scale: f16::ONE, offset: f16::ONE, factors: pack_factors(units), quants: [0; 128] };
        let read: Vec<(f32, f32)> = (0..8).map(|g| (block.affine(g).scale, block.affine(g).offset)).collect();
        assert_eq!(read, units.map(|(scale, offset)| (f32::from(scale), f32::from(offset))));
    }

    /// Returns the root mean square of the quantisation error relative to that of the weights.
    fn relative_error(weights: &[f32; BLOCK]) -> f32 {
        let mut out = [0.0; BLOCK];
        Block::quantise(weights).expand(&mut out);
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        square(&mut out.iter().zip(weights).map(|(a, b)| a - b)) / square(&mut weights.iter().copied()).max(1e-30)
    }

    #[test]
    fn little_is_lost() {
        let of = |f: &dyn Fn(usize) -> f32| -> [f32; BLOCK] { from_fn(f) };
        // Uniform weights in [-1, 1] have sixteen levels over a range of 2: the best possible error has a root mean square of 2 / 15 / √12,
        // and the weights one of 1 / √3.
        let uniform = random(BLOCK, 3);
        let cases = [
            ("uniform", of(&|i| uniform[i]), 0.075),
            ("positive", of(&|i| 2.0 + 0.1 * uniform[i]), 0.08),
            ("tiny", of(&|i| 1e-3 * uniform[i]), 0.075),
            ("groups of many sizes", of(&|i| uniform[i] * (1 + i / GROUP) as f32), 0.08),
            ("zero", of(&|_| 0.0), 0.0),
            ("one negative number", of(&|_| -0.75), 0.001),
            ("sixteen levels", of(&|i| (i % 16) as f32 - 8.0), 0.02),
        ];
        for (name, weights, bound) in cases {
            let error = relative_error(&weights);
            assert!(error <= bound, "{name}: {error}");
        }
    }
}
