//! Elementwise operations and reductions that the compiler turns into vector instructions.

const LANES: usize = 16;

/// Returns `a * b + c`, with one rounding if the target has a fused instruction.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c }
}

/// Returns the exponential, accurate to about 2 units in the last place; below -87 it is about 1e-38, above 88 it saturates.
///
/// The algorithm is `expf` of Cephes: range reduction by powers of two, then a polynomial of degree 5.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    #[allow(clippy::manual_clamp, reason = "`clamp` keeps NaN, which compiles to slower code")]
    let x = x.max(-87.3).min(88.3);
    let shifted = fma(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = fma(n, -0.693_359_4, x);
    let r = fma(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = fma(p, r, 1.398_2e-3);
    p = fma(p, r, 8.333_452e-3);
    p = fma(p, r, 4.166_579_6e-2);
    p = fma(p, r, 1.666_666_5e-1);
    p = fma(p, r, 0.5);
    p = fma(p, r * r, r + 1.0);
    let exponent = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    p * f32::from_bits(exponent)
}

/// Returns the logistic function of `x`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns the inner product of two slices of the same length.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for l in 0..LANES {
            lanes[l] = fma(x[l], y[l], lanes[l]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Returns the largest element, or negative infinity if there is none.
#[inline]
pub fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            lanes[l] = if x[l] > lanes[l] { x[l] } else { lanes[l] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| m.max(x))
}

/// Replaces every element by `exp(x - shift)` and returns their sum.
#[inline]
pub fn exp_shifted_in_place(a: &mut [f32], shift: f32) -> f32 {
    exp_sums_in_place(a, shift).total
}

/// The sums over a row that its normalisation and its entropy need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExpSums {
    /// `Σ e`, with `e = exp(x - shift)`.
    pub total: f32,
    /// `Σ e (x - shift)`.
    pub weighted: f32,
}

/// Replaces every element by `exp(x - shift)` and returns the sums. For a caller that does not read `weighted` the compiler leaves it out.
#[inline(always)]
pub fn exp_sums_in_place(a: &mut [f32], shift: f32) -> ExpSums {
    // Below this number `exp` is constant and not 0, so the product with a much lower number would not vanish.
    const LEAST: f32 = -87.3;
    let (mut totals, mut weighteds) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (chunks, rest) = a.as_chunks_mut::<LANES>();
    for x in chunks {
        for l in 0..LANES {
            let shifted = x[l] - shift;
            x[l] = exp(shifted);
            totals[l] += x[l];
            weighteds[l] = fma(x[l], shifted.max(LEAST), weighteds[l]);
        }
    }
    let mut sums = ExpSums { total: totals.iter().sum(), weighted: weighteds.iter().sum() };
    for x in rest {
        let shifted = *x - shift;
        *x = exp(shifted);
        sums.total += *x;
        sums.weighted += *x * shifted.max(LEAST);
    }
    sums
}

/// Computes `y += x`.
#[inline]
pub fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// Computes `y *= factor`.
#[inline]
pub fn scale(y: &mut [f32], factor: f32) {
    for y in y {
        *y *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for i in -8000..8000 {
            let x = i as f32 * 0.01;
            let (got, want) = (exp(x), f64::from(x).exp());
            assert!((f64::from(got) / want - 1.0).abs() < 4e-7, "{x}: {got} {want}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn reductions_agree_with_plain_loops() {
        let a: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin()).collect();
        let want: f32 = a.iter().map(|x| x * x).sum();
        assert!((dot(&a, &a) - want).abs() < 1e-5);
        assert_eq!(max(&a), a.iter().copied().fold(f32::MIN, f32::max));
        let mut e = a.clone();
        let sums = exp_sums_in_place(&mut e, 0.5);
        assert!((sums.total - a.iter().map(|x| (x - 0.5).exp()).sum::<f32>()).abs() < 1e-4);
        assert!((sums.weighted - a.iter().map(|x| (x - 0.5).exp() * (x - 0.5)).sum::<f32>()).abs() < 1e-4);
    }
}
