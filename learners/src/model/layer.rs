//! The forward and backward pass of one transformer layer.

use super::context::Context;
use super::linear::{GradientSink, LinearScratch};
use super::low_rank::Projection;
use super::packed::OutputRows;
use crate::ops::attention::{self, Heads, Inputs};
use crate::ops::matmul::Write;
use crate::ops::{embedding, fit, norm, rope, swiglu};

/// The activations that a layer saves for its backward pass. `N` is the number of tokens and `M` the number of query rows.
#[derive(Default)]
pub(super) struct Activations {
    /// The layer's input `[N, C]`.
    pub x: Vec<f32>,
    /// The input after the first norm `[N, C]`.
    h1: Vec<f32>,
    inv1: Vec<f32>,
    /// The query rows of `h1`, if not all rows are queries `[M, C]`.
    h1_rows: Vec<f32>,
    /// The queries before norm and rotation `[M, heads * D]`.
    q_raw: Vec<f32>,
    /// The keys before norm and rotation, then the values `[past + N, 2 kv_heads * D]`.
    kv: Vec<f32>,
    inv_q: Vec<f32>,
    inv_k: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    /// The output of attention `[M, heads * D]`.
    attended: Vec<f32>,
    /// The log-sum-exp of each row of attention scores `[M, heads]`.
    lse: Vec<f32>,
    /// The residual stream after attention `[M, C]`.
    x2: Vec<f32>,
    /// `x2` after the second norm `[M, C]`.
    h2: Vec<f32>,
    inv2: Vec<f32>,
    gate_up: Vec<f32>,
    act: Vec<f32>,
}

/// The keys and values of a layer for the positions that were read so far.
#[derive(Default)]
pub(super) struct KvCache {
    k: Vec<f32>,
    kv: Vec<f32>,
}

impl Activations {
    /// Swaps the keys and values with those of a cache: called before a forward pass to extend them, and after it to store them.
    pub(super) fn swap(&mut self, cache: &mut KvCache) {
        std::mem::swap(&mut self.k, &mut cache.k);
        std::mem::swap(&mut self.kv, &mut cache.kv);
    }
}

/// Buffers that all layers share.
#[derive(Default)]
pub(super) struct Scratch {
    attention: attention::Scratch,
    dact: Vec<f32>,
    dh: Vec<f32>,
    dattended: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dkv: Vec<f32>,
    dq_raw: Vec<f32>,
    dh_rows: Vec<f32>,
    linear: LinearScratch,
    /// Receives the gradients of small parameters that are frozen; nothing reads it.
    discarded: Vec<f32>,
}

/// The dimensions of one call of a layer.
struct Shape {
    /// The number of positions before this input whose keys and values are cached.
    past: usize,
    /// The number of tokens.
    n: usize,
    /// The number of query rows.
    m: usize,
    /// The width of the residual stream.
    c: usize,
    /// The width inside the MLP.
    inner: usize,
    /// The width of all query heads together.
    q: usize,
    /// The width of all key heads together.
    kv: usize,
    heads: Heads,
    eps: f32,
}

impl<'a> Context<'a> {
    fn shape(&self) -> Shape {
        let heads = self.config.heads();
        Shape {
            past: self.packed.past,
            n: self.packed.tokens.len(),
            m: self.queries().0.len(),
            c: self.config.hidden_size,
            inner: self.config.intermediate_size,
            q: heads.heads * heads.head_dim,
            kv: heads.kv_heads * heads.head_dim,
            heads,
            eps: self.config.rms_norm_eps as f32,
        }
    }

    fn attention_inputs<'b>(&self, s: &Shape, q: &'b [f32], k: &'b [f32], kv: &'b [f32]) -> Inputs<'b>
    where
        'a: 'b,
    {
        let (positions, spans) = self.queries();
        Inputs { q, k, v: &kv[s.kv.min(kv.len())..], v_stride: 2 * s.kv, positions, spans, heads: s.heads, precision: self.precision }
    }
}

/// Computes the layer's output `[M, C]` from its input in `saved.x` `[N, C]`.
pub(super) fn forward(ctx: Context<'_>, saved: &mut Activations, scratch: &mut Scratch, out: &mut Vec<f32>) {
    let s = ctx.shape();
    let (positions, _) = ctx.queries();
    let x = &saved.x[..s.n * s.c];
    let h1 = fit(&mut saved.h1, s.n * s.c);
    norm::forward(h1, fit(&mut saved.inv1, s.n), x, ctx.weight(&ctx.ranges.input_norm), s.eps);
    let x2 = fit(&mut saved.x2, s.m * s.c);
    let query_rows = match ctx.output_rows {
        OutputRows::All => {
            x2.copy_from_slice(x);
            &*h1
        }
        OutputRows::Needed => {
            embedding::gather(x2, x, &ctx.packed.rows, s.c);
            let rows = fit(&mut saved.h1_rows, s.m * s.c);
            embedding::gather(rows, h1, &ctx.packed.rows, s.c);
            &*rows
        }
    };
    let q_raw = fit(&mut saved.q_raw, s.m * s.q);
    ctx.linear(Projection::Q, q_raw, query_rows, s.m, Write::Set, &mut scratch.linear);
    let kv = fit(&mut saved.kv, (s.past + s.n) * 2 * s.kv);
    let new_kv = &mut kv[s.past * 2 * s.kv..];
    ctx.linear(Projection::Kv, new_kv, h1, s.n, Write::Set, &mut scratch.linear);
    let (q, inv_q) = (fit(&mut saved.q, s.m * s.q), fit(&mut saved.inv_q, s.m * s.heads.heads));
    rope::forward(q, inv_q, (q_raw, s.q), ctx.weight(&ctx.ranges.q_norm), s.eps, (ctx.rope, positions));
    let (k, inv_k) = (fit(&mut saved.k, (s.past + s.n) * s.kv), fit(&mut saved.inv_k, s.n * s.heads.kv_heads));
    let k_norm = ctx.weight(&ctx.ranges.k_norm);
    rope::forward(&mut k[s.past * s.kv..], inv_k, (new_kv, 2 * s.kv), k_norm, s.eps, (ctx.rope, &ctx.packed.positions));
    let attended = fit(&mut saved.attended, s.m * s.q);
    let lse = fit(&mut saved.lse, s.m * s.heads.heads);
    attention::forward(&mut scratch.attention, ctx.attention_inputs(&s, q, k, kv), attended, lse);
    ctx.linear(Projection::O, x2, attended, s.m, Write::Add, &mut scratch.linear);
    let h2 = fit(&mut saved.h2, s.m * s.c);
    norm::forward(h2, fit(&mut saved.inv2, s.m), x2, ctx.weight(&ctx.ranges.post_norm), s.eps);
    let gate_up = fit(&mut saved.gate_up, s.m * 2 * s.inner);
    ctx.linear(Projection::GateUp, gate_up, h2, s.m, Write::Set, &mut scratch.linear);
    let act = fit(&mut saved.act, s.m * s.inner);
    swiglu::forward(act, gate_up, s.inner);
    let out = fit(out, s.m * s.c);
    out.copy_from_slice(x2);
    ctx.linear(Projection::Down, out, act, s.m, Write::Add, &mut scratch.linear);
}

/// Adds the gradients of the layer's parameters to the sink, and computes the gradient of the layer's input.
///
/// `dx_buffer` holds the gradient of the output `[M, C]`; afterwards `dinput` holds the gradient of the input `[N, C]`. If all rows are
/// queries, the gradient is computed in place and the two buffers are swapped.
pub(super) fn backward(
    ctx: Context<'_>,
    saved: &mut Activations,
    scratch: &mut Scratch,
    sink: &mut GradientSink<'_>,
    (dx_buffer, dinput): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let s = ctx.shape();
    let dx = fit(dx_buffer, s.m * s.c);
    mlp_backward(&ctx, &s, saved, scratch, sink, dx);
    attention_backward(&ctx, &s, saved, scratch, sink, dx);
    let h1 = &saved.h1[..s.n * s.c];
    let dh = fit(&mut scratch.dh, s.n * s.c);
    let dkv = &scratch.dkv[..s.n * 2 * s.kv];
    ctx.linear_backward(Projection::Kv, (dkv, h1), (dh, Write::Set), s.n, sink, &mut scratch.linear);
    let dq_raw = &scratch.dq_raw[..s.m * s.q];
    match ctx.output_rows {
        OutputRows::All => {
            ctx.linear_backward(Projection::Q, (dq_raw, h1), (dh, Write::Add), s.m, sink, &mut scratch.linear);
            std::mem::swap(dx_buffer, dinput);
        }
        OutputRows::Needed => {
            let dh_rows = fit(&mut scratch.dh_rows, s.m * s.c);
            ctx.linear_backward(
                Projection::Q,
                (dq_raw, &saved.h1_rows[..s.m * s.c]),
                (dh_rows, Write::Set),
                s.m,
                sink,
                &mut scratch.linear,
            );
            embedding::scatter_add(dh, dh_rows, &ctx.packed.rows, s.c);
            let dinput = fit(dinput, s.n * s.c);
            dinput.fill(0.0);
            embedding::scatter_add(dinput, dx, &ctx.packed.rows, s.c);
        }
    }
    let dnorm = sink.parameter_or_scratch(&ctx.ranges.input_norm, &mut scratch.discarded);
    let dinput = fit(dinput, s.n * s.c);
    norm::backward(dinput, dnorm, dh, &saved.x[..s.n * s.c], &saved.inv1[..s.n], ctx.weight(&ctx.ranges.input_norm));
}

/// Computes the gradients of the raw queries (`scratch.dq_raw`), and of the raw keys and the values (`scratch.dkv`), from the gradient `dx` of
/// the residual stream after attention.
fn attention_backward(ctx: &Context<'_>, s: &Shape, saved: &Activations, scratch: &mut Scratch, sink: &mut GradientSink<'_>, dx: &[f32]) {
    let attended = &saved.attended[..s.m * s.q];
    let dattended = fit(&mut scratch.dattended, s.m * s.q);
    ctx.linear_backward(Projection::O, (dx, attended), (dattended, Write::Set), s.m, sink, &mut scratch.linear);

    let kv = &saved.kv[..s.n * 2 * s.kv];
    let dq = fit(&mut scratch.dq, s.m * s.q);
    let dk = fit(&mut scratch.dk, s.n * s.kv);
    let dkv = fit(&mut scratch.dkv, s.n * 2 * s.kv);
    let inputs = ctx.attention_inputs(s, &saved.q[..s.m * s.q], &saved.k[..s.n * s.kv], kv);
    let lse = &saved.lse[..s.m * s.heads.heads];
    let gradients = attention::Gradients { dq, dk, dv: &mut dkv[s.kv..] };
    attention::backward(&mut scratch.attention, inputs, (attended, lse), dattended, gradients);

    let (positions, _) = ctx.queries();
    let dq_raw = fit(&mut scratch.dq_raw, s.m * s.q);
    let (inv_q, inv_k) = (&saved.inv_q[..s.m * s.heads.heads], &saved.inv_k[..s.n * s.heads.kv_heads]);
    let q_norm = (inv_q, ctx.weight(&ctx.ranges.q_norm));
    let q_raw = (&saved.q_raw[..s.m * s.q], s.q);
    let dnorm = sink.parameter_or_scratch(&ctx.ranges.q_norm, &mut scratch.discarded);
    rope::backward(dq_raw, dnorm, dq, q_raw, q_norm, (ctx.rope, positions));
    let k_norm = (inv_k, ctx.weight(&ctx.ranges.k_norm));
    let at_keys = (ctx.rope, &ctx.packed.positions[..]);
    let dnorm = sink.parameter_or_scratch(&ctx.ranges.k_norm, &mut scratch.discarded);
    rope::backward(dkv, dnorm, dk, (kv, 2 * s.kv), k_norm, at_keys);
}

/// Turns the gradient `dx` of the layer's output into the gradient of the residual stream before the MLP.
fn mlp_backward(ctx: &Context<'_>, s: &Shape, saved: &mut Activations, scratch: &mut Scratch, sink: &mut GradientSink<'_>, dx: &mut [f32]) {
    let dact = fit(&mut scratch.dact, s.m * s.inner);
    ctx.linear_backward(Projection::Down, (&*dx, &saved.act[..s.m * s.inner]), (dact, Write::Set), s.m, sink, &mut scratch.linear);
    let gate_up = &mut saved.gate_up[..s.m * 2 * s.inner];
    swiglu::backward_in_place(gate_up, dact, s.inner);
    let dh = fit(&mut scratch.dh, s.m * s.c);
    ctx.linear_backward(Projection::GateUp, (&*gate_up, &saved.h2[..s.m * s.c]), (dh, Write::Set), s.m, sink, &mut scratch.linear);
    let dnorm = sink.parameter_or_scratch(&ctx.ranges.post_norm, &mut scratch.discarded);
    norm::backward(dx, dnorm, dh, &saved.x2[..s.m * s.c], &saved.inv2[..s.m], ctx.weight(&ctx.ranges.post_norm));
}
