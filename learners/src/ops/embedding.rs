//! Embedding lookup: gathering rows of a matrix, and adding their gradients to the matrix's gradient.

use super::vector::add;

/// Computes `out[i] = table[rows[i]]`. Shapes: `table` `[V, C]`, `out` `[N, C]`.
pub fn gather(out: &mut [f32], table: &[f32], rows: &[u32], width: usize) {
    for (out, &row) in out.chunks_exact_mut(width).zip(rows) {
        let at = row as usize * width;
        out.copy_from_slice(&table[at..at + width]);
    }
}

/// Computes `table[rows[i]] += x[i]`, the backward pass of [`gather`].
pub fn scatter_add(table: &mut [f32], x: &[f32], rows: &[u32], width: usize) {
    for (x, &row) in x.chunks_exact(width).zip(rows) {
        let at = row as usize * width;
        add(&mut table[at..at + width], x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (table, dy, rows) = (random(12, 1), random(12, 2), [2, 0, 2, 3]);
        let mut dtable = vec![0.0; 12];
        scatter_add(&mut dtable, &dy, &rows, 3);
        check_gradient("table", &table, &dtable, |table| {
            let mut y = vec![0.0; 12];
            gather(&mut y, table, &rows, 3);
            weighted_sum(&y, &dy)
        });
    }
}
