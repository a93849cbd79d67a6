//! Matrix products over strided views.

/// A read-only matrix view: element `(r, c)` is `data[r * row_stride + c * col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A writable matrix view whose columns lie side by side.
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

/// What a product does with what is already in its output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Overwrite it.
    Set,
    /// Add to it.
    Add,
}

/// In what numbers products are computed; everything else is `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Factors rounded to bf16, sums in `f32`, where the machine has tile instructions; single precision elsewhere.
    #[default]
    Bf16,
}

impl<'a> Mat<'a> {
    /// A dense `[rows, cols]` matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A `[rows, cols]` matrix whose rows begin `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

impl<'a> MatMut<'a> {
    /// A dense `[rows, cols]` matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A `[rows, cols]` matrix whose rows begin `row_stride` elements apart.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(cols <= row_stride || rows <= 1, "rows of {cols} elements overlap at a stride of {row_stride}");
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
    assert!(len >= needed, "a {rows} x {cols} view at stride {row_stride} needs {needed} elements, the slice has {len}");
}

/// Multiplications from which on a product is worth dividing among idle cores.
const PARALLEL: usize = 1 << 25;

/// `out = alpha * a b`, or `out += alpha * a b`; large products in single precision use cores that are idle.
///
/// # Panics
/// When the shapes do not fit together.
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
        // SAFETY: as below; a view has a stride of 1 in one direction, because it was made so and at most transposed.
        #[allow(unsafe_code)]
        unsafe {
            amx::matmul(output, left, right, alpha);
        }
        return;
    }
    let _ = precision;
    let large = out.rows * out.cols * a.cols >= PARALLEL;
    let parallelism = if large { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the views were checked against their slices when they were made (`check`), a transposed view covers the
    // same elements, the shapes fit by the assertion above, and `out` is a unique borrow that overlaps neither input.
    // All three slices are initialised.
    #[allow(unsafe_code)]
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
        // Sizes around the tiles' edges, every pair of layouts, with strides.
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

    #[test]
    #[should_panic(expected = "needs")]
    fn a_view_longer_than_its_slice_is_refused() {
        Mat::new(&[0.0; 5], 2, 3);
    }
}
