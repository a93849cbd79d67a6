//! Strided views of matrices.

/// A read-only view of a matrix: element `(r, c)` is `data[r * row_stride + c * col_stride]`. One of the two strides is 1.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// A writable view of a matrix whose rows are contiguous: element `(r, c)` is `data[r * row_stride + c]`.
pub struct MatMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
}

/// How a product is written to its output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// The output is overwritten.
    Set,
    /// The product is added to the output.
    Add,
}

impl<'a> Mat<'a> {
    /// Creates a view of a dense `[rows, cols]` matrix.
    ///
    /// # Panics
    /// The slice is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Creates a view of a `[rows, cols]` matrix whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// The slice is too short, or the rows overlap.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Returns the transposed view.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

impl<'a> MatMut<'a> {
    /// Creates a view of a dense `[rows, cols]` matrix.
    ///
    /// # Panics
    /// The slice is too short.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Creates a view of a `[rows, cols]` matrix whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// The slice is too short, or the rows overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }
}

/// Checks that the rows of a view do not overlap and lie within a slice of `len` elements.
fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(cols <= row_stride || rows <= 1, "rows of {cols} elements overlap at a stride of {row_stride}");
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
    assert!(len >= needed, "a {rows} x {cols} view at stride {row_stride} needs {needed} elements, the slice has {len}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "needs")]
    fn a_view_longer_than_its_slice_is_refused() {
        Mat::new(&[0.0; 5], 2, 3);
    }
}
