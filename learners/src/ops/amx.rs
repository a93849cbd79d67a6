//! Matrix products in bf16 with f32 sums, on the tile unit (AMX) that x86 server processors have since Sapphire Rapids.
//!
//! Inputs are rounded to bf16 while they are packed into tiles of 16 lines by 32 steps; products are summed in f32. A line is a row of the left
//! operand or a column of the right one; steps run along the inner dimension. The instructions are described in Intel's "Architectures Software
//! Developer's Manual", volume 1, chapter 18.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::sync::OnceLock;

use super::matrix::Write;

/// The number of lines in a tile.
const LINES: usize = 16;
/// The number of steps of the inner dimension in a tile; two neighbouring steps share one 32-bit element.
const STEPS: usize = 32;
/// The number of vectors of 64 bytes in a tile.
const TILE: usize = LINES;
/// The number of bytes of the left operand that are packed at once: they stay in the second-level cache until all products with them are done.
const CHUNK: usize = 256 * 1024;

/// A read-only operand of a product: `lines` lines of `steps` steps each.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub data: *const f32,
    pub lines: usize,
    pub steps: usize,
    pub line_stride: usize,
    pub step_stride: usize,
}

/// The output of a product, whose rows are contiguous.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub data: *mut f32,
    pub row_stride: usize,
    pub write: Write,
}

/// The order of the elements of a packed tile in memory.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// One line after the other, as the left operand needs.
    Lines,
    /// One pair of steps after the other, as the right operand needs.
    Pairs,
}

/// Returns whether this machine has the instructions and the operating system lets this process use them; the answer is computed only once.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const REQUEST_PERMISSION: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512bf16");
        if !vectors {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        let tiles = features & (1 << 22) != 0 && features & (1 << 24) != 0;
        // SAFETY: `arch_prctl` with this request reads no memory; it fails on kernels that do not know it.
        tiles && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
    })
}

/// The memory layout that `ldtilecfg` reads.
#[repr(C, align(64))]
struct TileConfig([u8; 64]);

/// The tile configuration: palette 1 with eight tiles of 16 rows of 64 bytes.
static CONFIG: TileConfig = {
    let mut config = [0u8; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
        tile += 1;
    }
    TileConfig(config)
};

thread_local! {
    /// Buffers for the packed operands, which are reused from product to product.
    static PACKED: RefCell<[Vec<__m512i>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Computes `out = alpha a bᵀ` or `out += alpha a bᵀ`, where both operands are given as lines.
///
/// # Safety
/// [`available`] is true; the operands can be read and the output written at every index that their shapes name; each
/// operand has a stride of 1 in one direction; the output overlaps neither operand.
pub(super) unsafe fn matmul(out: Output, a: Operand, b: Operand, alpha: f32) {
    let blocks = a.steps.div_ceil(STEPS);
    let chunk = (CHUNK / (blocks * STEPS * 2)).next_multiple_of(2 * LINES);
    PACKED.with_borrow_mut(|[packed_a, packed_b]| {
        // SAFETY: `available` says that the instructions exist; the operands are readable by this function's contract.
        unsafe {
            pack(packed_b, b, 1.0, Order::Pairs);
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly));
            for start in (0..a.lines).step_by(chunk) {
                let lines = chunk.min(a.lines - start);
                pack(packed_a, Operand { data: a.data.add(start * a.line_stride), lines, ..a }, alpha, Order::Lines);
                for column in (0..b.lines).step_by(2 * LINES) {
                    for row in (0..lines).step_by(2 * LINES) {
                        let a_tiles = packed_a.as_ptr().add(row / LINES * blocks * TILE);
                        let b_tiles = packed_b.as_ptr().add(column / LINES * blocks * TILE);
                        block(out, (start + row, a.lines), (column, b.lines), (a_tiles, b_tiles, blocks));
                    }
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    });
}

/// Computes a block of 32 by 32 of the output, through a buffer at the edges of the output.
///
/// # Safety
/// The conditions of [`matmul`] hold; `a` and `b` each point to two blocks of lines, which consist of `blocks` tiles.
unsafe fn block(
    out: Output,
    (row, rows): (usize, usize),
    (column, columns): (usize, usize),
    (a, b, blocks): (*const __m512i, *const __m512i, usize),
) {
    let (height, width) = ((rows - row).min(2 * LINES), (columns - column).min(2 * LINES));
    // SAFETY: row and column lie inside the output. A whole block also lies inside it; a partial block is computed in a buffer of the size of a
    // whole one, and only the part that lies inside the output is copied.
    unsafe {
        let at = out.data.add(row * out.row_stride + column);
        if height == 2 * LINES && width == 2 * LINES {
            tiles(at, out.row_stride, out.write, a, b, blocks);
            return;
        }
        let mut whole = [0.0f32; 4 * LINES * LINES];
        tiles(whole.as_mut_ptr(), 2 * LINES, Write::Set, a, b, blocks);
        for (r, line) in whole.chunks_exact(2 * LINES).take(height).enumerate() {
            let to = std::slice::from_raw_parts_mut(at.add(r * out.row_stride), width);
            match out.write {
                Write::Set => to.copy_from_slice(&line[..width]),
                Write::Add => super::vector::add(to, line),
            }
        }
    }
}

/// Computes two by two tiles of the output: the sums over all steps.
///
/// # Safety
/// The conditions of [`block`] hold, a whole block can be written at `out`, and the tiles are configured.
#[inline]
unsafe fn tiles(out: *mut f32, row_stride: usize, write: Write, a: *const __m512i, b: *const __m512i, blocks: usize) {
    // SAFETY: this reads `blocks` tiles from each of the four panels, and reads or writes 32 rows of 32 elements at `out`, all of which are valid
    // by the contract. Compiled code does not use tiles 0 to 7.
    unsafe {
        let (below, stride) = (out.add(LINES * row_stride), row_stride * 4);
        match write {
            Write::Set => {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            }
            Write::Add => asm!(
                "tileloadd tmm0, [{c} + {s}*1]",
                "tileloadd tmm1, [{c} + {s}*1 + 64]",
                "tileloadd tmm2, [{d} + {s}*1]",
                "tileloadd tmm3, [{d} + {s}*1 + 64]",
                c = in(reg) out, d = in(reg) below, s = in(reg) stride, options(nostack, readonly),
            ),
        }
        let panel = blocks * TILE;
        asm!(
            "2:",
            "tileloadd tmm4, [{a0} + {s}*1]",
            "tileloadd tmm6, [{b0} + {s}*1]",
            "tileloadd tmm7, [{b1} + {s}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a1} + {s}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            a0 = inout(reg) a => _, a1 = inout(reg) a.add(panel) => _,
            b0 = inout(reg) b => _, b1 = inout(reg) b.add(panel) => _,
            n = inout(reg) blocks => _, s = in(reg) 64usize, options(nostack, readonly),
        );
        asm!(
            "tilestored [{c} + {s}*1], tmm0",
            "tilestored [{c} + {s}*1 + 64], tmm1",
            "tilestored [{d} + {s}*1], tmm2",
            "tilestored [{d} + {s}*1 + 64], tmm3",
            c = in(reg) out, d = in(reg) below, s = in(reg) stride, options(nostack),
        );
    }
}

/// Rounds an operand, scaled by `alpha`, to bf16 and packs it into tiles `[line blocks, step blocks, tile]`. Lines and steps beyond the operand
/// are zero, and the number of line blocks is even.
///
/// # Safety
/// The vector instructions exist and the operand is readable.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack(out: &mut Vec<__m512i>, m: Operand, alpha: f32, order: Order) {
    let (line_blocks, step_blocks) = (m.lines.div_ceil(2 * LINES) * 2, m.steps.div_ceil(STEPS));
    let len = line_blocks * step_blocks * TILE;
    if out.len() < len {
        out.resize(len, _mm512_setzero_si512());
    }
    let natural = if m.step_stride == 1 { Order::Lines } else { Order::Pairs };
    let factor = _mm512_set1_ps(alpha);
    let (outer, inner) = match natural {
        Order::Lines => (line_blocks, step_blocks),
        Order::Pairs => (step_blocks, line_blocks),
    };
    // The inner loop runs along the memory of the operand.
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let (line_block, step_block) = if natural == Order::Lines { (o, i) } else { (i, o) };
        let (line, step) = (line_block * LINES, step_block * STEPS);
        // SAFETY: the operand is readable by this function's contract, and the loads are masked to its lines and steps.
        let tile = unsafe {
            match natural {
                Order::Lines => load_lines(m, line, step, factor),
                Order::Pairs => load_pairs(m, line, step, factor),
            }
        };
        let tile = if natural == order { tile } else { transpose(tile) };
        let at = (line_block * step_blocks + step_block) * TILE;
        out[at..at + TILE].copy_from_slice(&tile);
    }
}

/// Returns a mask of the first `count` of 16 lanes.
#[inline]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1u16 << count) - 1 }
}

/// Loads a tile of 16 lines of 16 pairs of steps from an operand whose steps are contiguous.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load_lines(m: Operand, line: usize, step: usize, factor: __m512) -> [__m512i; TILE] {
    let mut tile = [_mm512_setzero_si512(); TILE];
    let left = m.steps - step;
    let (low, high) = (first(left), first(left.saturating_sub(16)));
    for (i, vector) in tile.iter_mut().enumerate().take(m.lines.saturating_sub(line)) {
        let at = m.data.wrapping_add((line + i) * m.line_stride + step);
        // SAFETY: the line exists, and the loads are masked to its steps.
        let (a, b) = unsafe { (_mm512_maskz_loadu_ps(low, at), _mm512_maskz_loadu_ps(high, at.wrapping_add(16))) };
        *vector = round(_mm512_mul_ps(b, factor), _mm512_mul_ps(a, factor));
    }
    tile
}

/// Loads a tile of 16 pairs of steps of 16 lines from an operand whose lines are contiguous.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load_pairs(m: Operand, line: usize, step: usize, factor: __m512) -> [__m512i; TILE] {
    let mut tile = [_mm512_setzero_si512(); TILE];
    let lanes = first(m.lines.saturating_sub(line));
    let interleave = interleave();
    for (pair, vector) in tile.iter_mut().enumerate() {
        let at = step + 2 * pair;
        let row = |step: usize| {
            let mask = if step < m.steps { lanes } else { 0 };
            // SAFETY: the load is masked to the lines of an existing step, and to nothing if the step does not exist.
            unsafe { _mm512_maskz_loadu_ps(mask, m.data.wrapping_add(step * m.step_stride + line)) }
        };
        let both = round(_mm512_mul_ps(row(at + 1), factor), _mm512_mul_ps(row(at), factor));
        *vector = _mm512_permutexvar_epi16(interleave, both);
    }
    tile
}

/// Rounds two vectors to bf16, `low` into the lower half of the result and `high` into the upper half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(high: __m512, low: __m512) -> __m512i {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Returns the permutation that places word `i` of the lower half beside word `i` of the upper half.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave() -> __m512i {
    let indices: [u16; 32] = std::array::from_fn(|i| (i as u16 / 2) + if i % 2 == 1 { 16 } else { 0 });
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute::<[u16; 32], __m512i>(indices) }
}

/// Transposes 16 by 16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(m: [__m512i; 16]) -> [__m512i; 16] {
    let mut a = m;
    for i in (0..16).step_by(2) {
        a[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
    // After the next step b[4i + j] holds, in each lane of 128 bits, column j (of 4) of rows 4i to 4i + 3.
    let mut b = a;
    for i in (0..16).step_by(4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    let mut c = b;
    for j in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(b[j], b[4 + j]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(b[j], b[4 + j]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(b[8 + j], b[12 + j]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(b[8 + j], b[12 + j]);
        c[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        c[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        c[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        c[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    c
}
