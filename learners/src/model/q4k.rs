//! GGML's Q4_K: blocks of 256 weights in eight groups; a group has a scale and an offset of six bits each, a weight four bits.

use std::array::from_fn;

use super::frozen::{from_f16, to_f16};

/// Weights of a block.
pub(super) const BLOCK: usize = 256;

/// Weights of one scale.
const GROUP: usize = 32;
/// The largest four-bit number.
const LEVELS: f32 = 15.0;
/// The largest six-bit number.
const STEPS: f32 = 63.0;
/// Spacings that are tried for a group, from `LEVELS - 1` to `LEVELS + 1` levels over its width.
const TRIES: usize = 20;

/// A block, byte for byte as GGML has it (`block_q4_K`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Block {
    /// A unit of the groups' scales, f16.
    scale: u16,
    /// A unit of the groups' offsets, f16.
    offset: u16,
    /// Scales and offsets of the groups in units, six bits each.
    factors: [u8; 12],
    /// Two weights a byte: of the first and the second 32 of each 64.
    quants: [u8; BLOCK / 2],
}

/// Where a group's numbers lie: `scale * quant - offset`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    offset: f32,
}

impl Block {
    /// The block nearest to these weights (GGML's `quantize_row_q4_K_ref`).
    pub fn of(weights: &[f32; BLOCK]) -> Self {
        let groups = weights.as_chunks::<GROUP>().0;
        let lines: [Line; 8] = from_fn(|g| fit(&groups[g]));
        let top = |part: fn(&Line) -> f32| lines.iter().map(part).fold(0.0, f32::max);
        let (scale, offset) = (top(|line| line.scale), top(|line| line.offset));
        let units = |x: f32, top: f32| if top > 0.0 { (STEPS / top * x).round_ties_even().clamp(0.0, STEPS) as u8 } else { 0 };
        let factors = packed(lines.map(|line| (units(line.scale, scale), units(line.offset, offset))));
        let mut block = Self { scale: to_f16(scale / STEPS), offset: to_f16(offset / STEPS), factors, quants: [0; BLOCK / 2] };
        for (g, group) in groups.iter().enumerate() {
            let line = block.line(g);
            if line.scale > 0.0 {
                let quants = group.map(|w| ((w + line.offset) / line.scale).round_ties_even().clamp(0.0, LEVELS) as u8);
                let bytes = &mut block.quants[g / 2 * GROUP..][..GROUP];
                bytes.iter_mut().zip(quants).for_each(|(byte, quant)| *byte |= quant << (4 * (g % 2)));
            }
        }
        block
    }

    /// Writes its weights in single precision.
    pub fn expand(&self, out: &mut [f32; BLOCK]) {
        for (g, group) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let (Line { scale, offset }, shift) = (self.line(g), 4 * (g % 2));
            for (out, byte) in group.iter_mut().zip(&self.quants[g / 2 * GROUP..]) {
                *out = scale * f32::from(byte >> shift & 15) - offset;
            }
        }
    }

    /// A group's line: the first four lie in the low six bits of bytes 0 to 7, the others in the last four bytes and the bits left over.
    fn line(&self, g: usize) -> Line {
        let f = &self.factors;
        let (scale, offset) = match g {
            0..4 => (f[g] & 63, f[g + 4] & 63),
            _ => (f[g + 4] & 15 | f[g - 4] >> 6 << 4, f[g + 4] >> 4 | f[g] >> 6 << 4),
        };
        Line { scale: from_f16(self.scale) * f32::from(scale), offset: from_f16(self.offset) * f32::from(offset) }
    }
}

/// Scales and offsets in the places where [`Block::line`] finds them.
fn packed(units: [(u8, u8); 8]) -> [u8; 12] {
    let mut factors = [0; 12];
    for g in 0..4 {
        let ((scale, offset), (late_scale, late_offset)) = (units[g], units[g + 4]);
        factors[g] = scale | late_scale >> 4 << 6;
        factors[g + 4] = offset | late_offset >> 4 << 6;
        factors[g + 8] = late_scale & 15 | (late_offset & 15) << 4;
    }
    factors
}

/// The line through a group with the least squares of errors, large weights counting more (GGML's `make_qkx2_quants`).
///
/// Quants at each of some spacings are held fixed and the line is fitted to them; an offset below 0 is not allowed.
fn fit(group: &[f32; GROUP]) -> Line {
    let least = group.iter().fold(0.0f32, |a, w| a.min(*w));
    let width = group.iter().fold(f32::MIN, |a, w| a.max(*w)) - least;
    if width <= 0.0 {
        return Line { scale: 0.0, offset: -least };
    }
    let typical = (group.iter().map(|w| w * w).sum::<f32>() / GROUP as f32).sqrt();
    let importance = group.map(|w| typical + w.abs());
    let quantised = |levels: f32| group.map(|w| (levels / width * (w - least)).round_ties_even().clamp(0.0, LEVELS));
    let error = |line: Line, quants: &[f32; GROUP]| -> f32 {
        (0..GROUP).map(|i| importance[i] * (line.scale * quants[i] - line.offset - group[i]).powi(2)).sum()
    };
    let mut best = Line { scale: width / LEVELS, offset: -least };
    let mut least_error = error(best, &quantised(LEVELS));
    for step in 0..=TRIES {
        let quants = quantised(LEVELS - 1.0 + 0.1 * step as f32);
        if let Some(line) = regression(&quants, group, &importance) {
            let error = error(line, &quants);
            if error < least_error {
                (best, least_error) = (line, error);
            }
        }
    }
    best
}

/// Weighted least squares of weights over their quants; through the origin where the offset would be below 0.
fn regression(quants: &[f32; GROUP], group: &[f32; GROUP], importance: &[f32; GROUP]) -> Option<Line> {
    let sum = |f: &dyn Fn(usize) -> f32| (0..GROUP).map(|i| importance[i] * f(i)).sum::<f32>();
    let (n, x, y) = (sum(&|_| 1.0), sum(&|i| quants[i]), sum(&|i| group[i]));
    let (xx, xy) = (sum(&|i| quants[i] * quants[i]), sum(&|i| quants[i] * group[i]));
    let determinant = n * xx - x * x;
    if determinant <= 0.0 {
        return None;
    }
    let line = Line { scale: (n * xy - x * y) / determinant, offset: (x * xy - xx * y) / determinant };
    Some(if line.offset < 0.0 { Line { scale: xy / xx, offset: 0.0 } } else { line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// Blocks of random bytes and what the Python package `gguf` reads in them (`tests/golden/q4k.py`).
    #[test]
    fn blocks_are_read_as_gguf_reads_them() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/q4k.safetensors");
        let raw = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&raw).unwrap();
        let (bytes, want) = (file.tensor("blocks").unwrap(), file.tensor("weights").unwrap());
        let (blocks, weights) = (bytes.data().as_chunks::<144>().0, want.data().as_chunks::<4>().0.as_chunks::<BLOCK>().0);
        assert!(blocks.len() == 12 && weights.len() == 12);
        for (bytes, want) in blocks.iter().zip(weights) {
            let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
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
        // The units of both are 1.
        let block = Block { scale: 0x3c00, offset: 0x3c00, factors: packed(units), quants: [0; 128] };
        let read: Vec<(f32, f32)> = (0..8).map(|g| (block.line(g).scale, block.line(g).offset)).collect();
        assert_eq!(read, units.map(|(scale, offset)| (f32::from(scale), f32::from(offset))));
    }

    /// The root of the mean square of what is lost, against that of the weights.
    fn lost(weights: &[f32; BLOCK]) -> f32 {
        let mut out = [0.0; BLOCK];
        Block::of(weights).expand(&mut out);
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        square(&mut out.iter().zip(weights).map(|(a, b)| a - b)) / square(&mut weights.iter().copied()).max(1e-30)
    }

    #[test]
    fn little_is_lost() {
        let of = |f: &dyn Fn(usize) -> f32| -> [f32; BLOCK] { from_fn(f) };
        // Uniform weights have sixteen levels over a width of 2: at best 2 / 15 / √12 of a root mean square of 1 / √3.
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
            let lost = lost(&weights);
            assert!(lost <= bound, "{name}: {lost}");
        }
    }
}
