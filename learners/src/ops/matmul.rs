//! Matrix products.

pub use super::matrix::{Mat, MatMut, Write};

/// The precision of matrix products; everything else is computed in `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Factors are rounded to bf16 and products summed in `f32` if the machine has tile instructions; otherwise single precision.
    #[default]
    Bf16,
}

/// The number of multiplications from which a product is divided among several cores.
const PARALLEL_FROM: usize = 1 << 25;

/// Computes `out = alpha * a b` or `out += alpha * a b`. Large products in single precision also use idle cores of the rayon pool.
///
/// # Panics
/// The shapes do not fit together.
pub fn matmul(precision: Precision, out: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, alpha: f32, write: Write) {
    assert_eq!((out.rows, out.cols, a.cols), (a.rows, b.cols, b.rows), "matrix shapes do not fit");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    #[cfg(all(feature = "amx", target_arch = "x86_64", target_os = "linux"))]
    if precision == Precision::Bf16 && a.cols > 0 && super::amx::available() {
        use super::amx::{self, Operand, Output};
        let left = Operand { data: a.data.as_ptr(), lines: a.rows, steps: a.cols, line_stride: a.row_stride, step_stride: a.col_stride };
        let right = Operand { data: b.data.as_ptr(), lines: b.cols, steps: b.rows, line_stride: b.col_stride, step_stride: b.row_stride };
        let output = Output { data: out.data.as_mut_ptr(), row_stride: out.row_stride, write };
        // SAFETY: `amx::available` is true. The views cover their slices, the shapes fit and the output is a unique borrow, as explained below
        // for `gemm`. A view has a stride of 1 in one direction, because `Mat::strided` sets it and `Mat::t` only swaps the two.
        unsafe {
            amx::matmul(output, left, right, alpha);
        }
        return;
    }
    let _ = precision;
    let large = out.rows * out.cols * a.cols >= PARALLEL_FROM;
    let parallelism = if large { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the views were checked against their slices when they were created (`matrix::check`), a transposed view covers the same elements,
    // the shapes fit by the assertion above, and `out` is a unique borrow that overlaps neither input. All three slices are initialised.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_views_multiply_as_written() {
        // a is [2, 3] inside rows of 4; b is [5, 3] used transposed.
        let a: Vec<f32> = (0..8).map(|x| x as f32).collect();
        let b: Vec<f32> = (0..15).map(|x| (x as f32) * 0.5 - 2.0).collect();
        let mut out = vec![1.0; 10];
        matmul(Precision::F32, MatMut::new(&mut out, 2, 5), Mat::strided(&a, 2, 3, 4), Mat::new(&b, 5, 3).t(), 2.0, Write::Add);
        for r in 0..2 {
            for c in 0..5 {
                let want: f32 = (0..3).map(|k| a[r * 4 + k] * b[c * 3 + k]).sum::<f32>() * 2.0 + 1.0;
                assert!((out[r * 5 + c] - want).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn bf16_products_agree_with_f32_to_its_rounding() {
        use crate::testing::random;
        // The sizes lie around the edges of tiles; every pair of layouts is tested, with strides.
        for (m, n, k) in [(1, 1, 1), (5, 3, 2), (16, 16, 32), (33, 31, 33), (64, 100, 70), (96, 64, 128)] {
            for layouts in 0..4 {
                let (a, b, old) = (random((m + 3) * (k + 3), 1), random((k + 3) * (n + 3), 2), random(m * (n + 2), 3));
                let view = |data: &'static [f32], rows, cols, transposed: bool| {
                    if transposed { Mat::strided(data, cols, rows, rows + 3).t() } else { Mat::strided(data, rows, cols, cols + 3) }
                };
                let (a, b): (&'static [f32], &'static [f32]) = (a.leak(), b.leak());
                let (a, b) = (view(a, m, k, layouts & 1 == 1), view(b, k, n, layouts & 2 == 2));
                for write in [Write::Set, Write::Add] {
                    let run = |precision| {
                        let mut out = old.clone();
                        matmul(precision, MatMut::strided(&mut out, m, n, n + 2), a, b, 0.5, write);
                        out
                    };
                    let (got, want) = (run(Precision::Bf16), run(Precision::F32));
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let error = (got - want).abs();
                        assert!(error < 8e-3 * (k as f32).sqrt(), "{m}x{n}x{k} {layouts} {write:?} {i}: {got} {want}");
                    }
                }
            }
        }
    }
}
