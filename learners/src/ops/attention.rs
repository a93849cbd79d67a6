//! Causal attention with grouped query heads over packed sequences, in blocks of queries. Scores above the diagonal block are never computed,
//! and only the log-sum-exp of each row is saved for the backward pass (Dao et al. 2022, algorithm 4).

use std::ops::Range;

use super::fit;
use super::matmul::{Mat, MatMut, Precision, Write, matmul};
use super::vector::{dot, exp, exp_shifted_in_place, max, scale};

/// The number of queries in one block.
const BLOCK: usize = 64;

/// The numbers of attention heads and their width; `heads` is a multiple of `kv_heads`.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
}

/// The rows of one sequence among the packed rows.
#[derive(Clone, Debug)]
pub struct Span {
    /// The sequence's rows among the queries.
    pub queries: Range<usize>,
    /// The rows among the keys and values of the first positions, if the sequence shares them with other sequences; empty otherwise.
    pub prefix: Range<usize>,
    /// The sequence's own rows among the keys and values: the positions after the prefix.
    pub keys: Range<usize>,
}

impl Span {
    /// Returns the rows of the first `columns` positions in at most two parts, each as `(columns, first row)`.
    fn parts(&self, columns: usize) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let shared = self.prefix.len().min(columns);
        [(0..shared, self.prefix.start), (shared..columns, self.keys.start)].into_iter().filter(|(columns, _)| !columns.is_empty())
    }
}

/// The inputs of attention.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The queries `[M, heads * D]`.
    pub q: &'a [f32],
    /// The keys `[N, kv_heads * D]`.
    pub k: &'a [f32],
    /// The values `[N, kv_heads * D]`, in rows that start `v_stride` elements apart.
    pub v: &'a [f32],
    /// The number of elements from the start of a row of `v` to the start of the next.
    pub v_stride: usize,
    /// The position of each query in its sequence `[M]`, ascending within each span.
    pub positions: &'a [u32],
    /// The sequences.
    pub spans: &'a [Span],
    /// The numbers of heads and their width.
    pub heads: Heads,
    /// The precision of matrix products.
    pub precision: Precision,
}

/// The outputs of [`backward`]; all three are overwritten.
pub struct Gradients<'a> {
    /// The gradient of the queries `[M, heads * D]`.
    pub dq: &'a mut [f32],
    /// The gradient of the keys `[N, kv_heads * D]`.
    pub dk: &'a mut [f32],
    /// The gradient of the values, with the stride of the values.
    pub dv: &'a mut [f32],
}

/// Buffers that are reused from call to call.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f32>,
    slopes: Vec<f32>,
}

/// A block of queries, and the number of keys that its last query can see.
struct Block {
    queries: Range<usize>,
    keys: usize,
}

impl<'a> Inputs<'a> {
    fn q_width(&self) -> usize {
        self.heads.heads * self.heads.head_dim
    }

    fn k_width(&self) -> usize {
        self.heads.kv_heads * self.heads.head_dim
    }

    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads.heads / self.heads.kv_heads)
    }

    fn softmax_scale(&self) -> f32 {
        1.0 / (self.heads.head_dim as f32).sqrt()
    }

    /// Returns the blocks of queries of one sequence.
    fn blocks(&self, span: &'a Span) -> impl Iterator<Item = Block> + 'a {
        let positions = self.positions;
        span.queries.clone().step_by(BLOCK).map(move |start| {
            let queries = start..(start + BLOCK).min(span.queries.end);
            Block { keys: positions[queries.end - 1] as usize + 1, queries }
        })
    }

    /// Returns one head's columns of a block's rows of a matrix that is laid out like the queries.
    fn query_rows<'b>(&self, data: &'b [f32], block: &Block, head: usize) -> Mat<'b> {
        let at = block.queries.start * self.q_width() + head * self.heads.head_dim;
        Mat::strided(&data[at..], block.queries.len(), self.heads.head_dim, self.q_width())
    }

    /// Returns `rows` keys from row `first` on, for one query head.
    fn keys(&self, first: usize, rows: usize, head: usize) -> Mat<'a> {
        let at = first * self.k_width() + self.kv_head(head) * self.heads.head_dim;
        Mat::strided(&self.k[at..], rows, self.heads.head_dim, self.k_width())
    }

    /// Returns `rows` values from row `first` on, for one query head.
    fn values(&self, first: usize, rows: usize, head: usize) -> Mat<'a> {
        let at = first * self.v_stride + self.kv_head(head) * self.heads.head_dim;
        Mat::strided(&self.v[at..], rows, self.heads.head_dim, self.v_stride)
    }
}

/// Computes `out = softmax(q kᵀ / √D) v` for every head, and `lse[m, h] = log Σ exp` of each row of scores.
///
/// Shapes: `out` `[M, heads * D]`, `lse` `[M, heads]`.
pub fn forward(scratch: &mut Scratch, inputs: Inputs<'_>, out: &mut [f32], lse: &mut [f32]) {
    let Heads { heads, head_dim, .. } = inputs.heads;
    let width = inputs.q_width();
    for span in inputs.spans {
        for block in inputs.blocks(span) {
            let rows = block.queries.len();
            for head in 0..heads {
                let scores = fit(&mut scratch.scores, rows * block.keys);
                let q = inputs.query_rows(inputs.q, &block, head);
                for (columns, first) in span.parts(block.keys) {
                    let s = MatMut::strided(&mut scores[columns.start..], rows, columns.len(), block.keys);
                    matmul(inputs.precision, s, q, inputs.keys(first, columns.len(), head).t(), inputs.softmax_scale(), Write::Set);
                }
                let mut sums = [0.0f32; BLOCK];
                for (i, row) in scores.chunks_exact_mut(block.keys).enumerate() {
                    let m = block.queries.start + i;
                    let (seen, hidden) = row.split_at_mut(inputs.positions[m] as usize + 1);
                    let top = max(seen);
                    sums[i] = exp_shifted_in_place(seen, top);
                    hidden.fill(0.0);
                    lse[m * heads + head] = top + sums[i].ln();
                }
                let at = block.queries.start * width + head * head_dim;
                for (columns, first) in span.parts(block.keys) {
                    let write = if columns.start == 0 { Write::Set } else { Write::Add };
                    let o = MatMut::strided(&mut out[at..], rows, head_dim, width);
                    let p = Mat::strided(&scores[columns.start..], rows, columns.len(), block.keys);
                    matmul(inputs.precision, o, p, inputs.values(first, columns.len(), head), 1.0, write);
                }
                for (i, sum) in sums[..rows].iter().enumerate() {
                    scale(&mut out[at + i * width..at + i * width + head_dim], 1.0 / sum);
                }
            }
        }
    }
}

/// Computes the gradients of queries, keys and values from `dout`, the gradient of the output; `out` and `lse` are the results of [`forward`].
pub fn backward(scratch: &mut Scratch, inputs: Inputs<'_>, (out, lse): (&[f32], &[f32]), dout: &[f32], gradients: Gradients<'_>) {
    let Heads { heads, head_dim, .. } = inputs.heads;
    let Gradients { dq, dk, dv } = gradients;
    let (width, k_width, v_stride) = (inputs.q_width(), inputs.k_width(), inputs.v_stride);
    dk.fill(0.0);
    for row in dv.chunks_mut(v_stride) {
        row[..k_width].fill(0.0);
    }
    let (factor, precision) = (inputs.softmax_scale(), inputs.precision);
    for span in inputs.spans {
        for block in inputs.blocks(span) {
            let (rows, cols) = (block.queries.len(), block.keys);
            for head in 0..heads {
                let (probabilities, slopes) = (fit(&mut scratch.scores, rows * cols), fit(&mut scratch.slopes, rows * cols));
                let q = inputs.query_rows(inputs.q, &block, head);
                let dout_block = inputs.query_rows(dout, &block, head);
                for (columns, first) in span.parts(cols) {
                    let (k, v) = (inputs.keys(first, columns.len(), head), inputs.values(first, columns.len(), head));
                    let p = MatMut::strided(&mut probabilities[columns.start..], rows, columns.len(), cols);
                    matmul(precision, p, q, k.t(), factor, Write::Set);
                    let ds = MatMut::strided(&mut slopes[columns.start..], rows, columns.len(), cols);
                    matmul(precision, ds, dout_block, v.t(), 1.0, Write::Set);
                }
                let every = probabilities.chunks_exact_mut(cols).zip(slopes.chunks_exact_mut(cols)).enumerate();
                for (i, (p, ds)) in every {
                    let m = block.queries.start + i;
                    let seen = inputs.positions[m] as usize + 1;
                    let columns = m * width + head * head_dim..m * width + (head + 1) * head_dim;
                    let delta = dot(&dout[columns.clone()], &out[columns]);
                    let shift = lse[m * heads + head];
                    for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                        *p = exp(*p - shift);
                        *ds = *p * (*ds - delta);
                    }
                    p[seen..].fill(0.0);
                    ds[seen..].fill(0.0);
                }
                let kv_column = inputs.kv_head(head) * head_dim;
                let dq_at = block.queries.start * width + head * head_dim;
                for (columns, first) in span.parts(cols) {
                    let part = columns.len();
                    let p = Mat::strided(&probabilities[columns.start..], rows, part, cols);
                    let ds = Mat::strided(&slopes[columns.start..], rows, part, cols);
                    let dv = MatMut::strided(&mut dv[first * v_stride + kv_column..], part, head_dim, v_stride);
                    matmul(precision, dv, p.t(), dout_block, 1.0, Write::Add);
                    let dk = MatMut::strided(&mut dk[first * k_width + kv_column..], part, head_dim, k_width);
                    matmul(precision, dk, ds.t(), q, factor, Write::Add);
                    let dq = MatMut::strided(&mut dq[dq_at..], rows, head_dim, width);
                    let write = if columns.start == 0 { Write::Set } else { Write::Add };
                    matmul(precision, dq, ds, inputs.keys(first, part, head), factor, write);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, random, weighted_sum};

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_dim: 4 };

    /// The inputs of two sequences: the first can fill more than a block, and the second has queries at some positions only.
    struct Case {
        spans: Vec<Span>,
        positions: Vec<u32>,
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
    }

    fn case(first: usize) -> Case {
        let spans = vec![
            Span { queries: 0..first, prefix: 0..0, keys: 0..first },
            Span { queries: first..first + 2, prefix: 0..0, keys: first..first + 6 },
        ];
        let positions = (0..first as u32).chain([1, 4]).collect();
        let rows = first + 6;
        Case { spans, positions, q: random((first + 2) * 16, 1), k: random(rows * 8, 2), v: random(rows * 11, 3) }
    }

    fn inputs(c: &Case) -> Inputs<'_> {
        Inputs {
            q: &c.q,
            k: &c.k,
            v: &c.v,
            v_stride: 11,
            positions: &c.positions,
            spans: &c.spans,
            heads: HEADS,
            precision: Precision::F32,
        }
    }

    fn run(inputs: Inputs<'_>) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut lse) = (vec![0.0; inputs.q.len()], vec![0.0; inputs.q.len() / 4]);
        forward(&mut Scratch::default(), inputs, &mut out, &mut lse);
        (out, lse)
    }

    #[test]
    fn blocks_agree_with_the_definition() {
        let c = case(BLOCK + 9);
        let (out, _) = run(inputs(&c));
        for span in &c.spans {
            for m in span.queries.clone() {
                for head in 0..4 {
                    let q = &c.q[m * 16 + head * 4..][..4];
                    let scores: Vec<f64> = (0..=c.positions[m] as usize)
                        .map(|p| f64::from(dot(q, &c.k[(span.keys.start + p) * 8 + head / 2 * 4..][..4]) / 2.0).exp())
                        .collect();
                    let total: f64 = scores.iter().sum();
                    for d in 0..4 {
                        let want: f64 = scores
                            .iter()
                            .enumerate()
                            .map(|(p, s)| s / total * f64::from(c.v[(span.keys.start + p) * 11 + head / 2 * 4 + d]))
                            .sum();
                        assert!((f64::from(out[m * 16 + head * 4 + d]) - want).abs() < 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let c = case(5);
        let (out, lse) = run(inputs(&c));
        let dout = random(out.len(), 4);
        let (mut dq, mut dk, mut dv) = (vec![9.0; c.q.len()], vec![9.0; c.k.len()], vec![0.0; c.v.len()]);
        let gradients = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        backward(&mut Scratch::default(), inputs(&c), (&out, &lse), &dout, gradients);
        check_gradient("q", &c.q, &dq, |q| weighted_sum(&run(Inputs { q, ..inputs(&c) }).0, &dout));
        check_gradient("k", &c.k, &dk, |k| weighted_sum(&run(Inputs { k, ..inputs(&c) }).0, &dout));
        check_gradient("v", &c.v, &dv, |v| weighted_sum(&run(Inputs { v, ..inputs(&c) }).0, &dout));
    }
}
