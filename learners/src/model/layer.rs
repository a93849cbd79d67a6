//! One Qwen3 layer, forward and backward.

use super::packed::Packed;
use super::params::LayerRanges;
use super::{Demand, ModelConfig};
use crate::ops::attention::{self, Heads, Inputs, Span};
use crate::ops::linear::{self, Dims};
use crate::ops::matmul::{Precision, Write};
use crate::ops::rope::{self, RopeTable};
use crate::ops::{embedding, fit, norm, swiglu};

/// What a layer keeps for its way back.
#[derive(Default)]
pub(crate) struct Kept {
    /// The layer's input `[N, C]`.
    pub x: Vec<f32>,
    h1: Vec<f32>,
    inv1: Vec<f32>,
    /// The rows of `h1` that ask, when not all do `[M, C]`.
    h1_rows: Vec<f32>,
    q_raw: Vec<f32>,
    kv: Vec<f32>,
    inv_q: Vec<f32>,
    inv_k: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    attended: Vec<f32>,
    lse: Vec<f32>,
    x2: Vec<f32>,
    h2: Vec<f32>,
    inv2: Vec<f32>,
    gate_up: Vec<f32>,
    act: Vec<f32>,
}

/// Buffers that all layers share.
#[derive(Default)]
pub(crate) struct Scratch {
    attention: attention::Scratch,
    dact: Vec<f32>,
    dh: Vec<f32>,
    dattended: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dkv: Vec<f32>,
    dq_raw: Vec<f32>,
    dh_rows: Vec<f32>,
}

/// What every layer is called with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub config: &'a ModelConfig,
    pub rope: &'a RopeTable,
    pub packed: &'a Packed,
    /// All parameters.
    pub params: &'a [f32],
    /// This layer's places among them.
    pub at: &'a LayerRanges,
    /// Which rows of its output are needed.
    pub demand: Demand,
    /// The numbers that products are computed in.
    pub precision: Precision,
}

struct Shape {
    n: usize,
    m: usize,
    c: usize,
    inner: usize,
    q: usize,
    kv: usize,
    heads: Heads,
    eps: f32,
    precision: Precision,
}

impl Shape {
    fn dims(&self, rows: usize, inputs: usize, outputs: usize) -> Dims {
        Dims { rows, inputs, outputs, precision: self.precision }
    }
}

impl<'a> Context<'a> {
    fn shape(&self) -> Shape {
        let heads = self.config.heads();
        Shape {
            n: self.packed.tokens.len(),
            m: self.asking().0.len(),
            c: self.config.hidden_size,
            inner: self.config.intermediate_size,
            q: heads.heads * heads.head_dim,
            kv: heads.kv_heads * heads.head_dim,
            heads,
            eps: self.config.rms_norm_eps as f32,
            precision: self.precision,
        }
    }

    /// The positions of the rows that ask, and their spans.
    fn asking(&self) -> (&'a [u32], &'a [Span]) {
        match self.demand {
            Demand::AllRows => (&self.packed.positions, &self.packed.spans),
            Demand::NeededRows => (&self.packed.row_positions, &self.packed.row_spans),
        }
    }

    fn weight(&self, range: &std::ops::Range<usize>) -> &'a [f32] {
        &self.params[range.clone()]
    }

    fn attention_inputs<'b>(&self, s: &Shape, q: &'b [f32], k: &'b [f32], kv: &'b [f32]) -> Inputs<'b>
    where
        'a: 'b,
    {
        let (positions, spans) = self.asking();
        Inputs { q, k, v: &kv[s.kv.min(kv.len())..], v_stride: 2 * s.kv, positions, spans, heads: s.heads, precision: self.precision }
    }
}

/// Computes the layer's output `[M, C]` from its input in `kept.x` `[N, C]`.
pub(crate) fn forward(ctx: Context<'_>, kept: &mut Kept, scratch: &mut Scratch, out: &mut Vec<f32>) {
    let s = ctx.shape();
    let (positions, _) = ctx.asking();
    let x = &kept.x[..s.n * s.c];
    let h1 = fit(&mut kept.h1, s.n * s.c);
    norm::forward(h1, fit(&mut kept.inv1, s.n), x, ctx.weight(&ctx.at.input_norm), s.eps);
    let x2 = fit(&mut kept.x2, s.m * s.c);
    let asking = match ctx.demand {
        Demand::AllRows => {
            x2.copy_from_slice(x);
            &*h1
        }
        Demand::NeededRows => {
            embedding::gather(x2, x, &ctx.packed.rows, s.c);
            let rows = fit(&mut kept.h1_rows, s.m * s.c);
            embedding::gather(rows, h1, &ctx.packed.rows, s.c);
            &*rows
        }
    };
    let q_raw = fit(&mut kept.q_raw, s.m * s.q);
    linear::forward(q_raw, asking, ctx.weight(&ctx.at.q), s.dims(s.m, s.c, s.q), Write::Set);
    let kv = fit(&mut kept.kv, s.n * 2 * s.kv);
    linear::forward(kv, h1, ctx.weight(&ctx.at.kv), s.dims(s.n, s.c, 2 * s.kv), Write::Set);
    let (q, inv_q) = (fit(&mut kept.q, s.m * s.q), fit(&mut kept.inv_q, s.m * s.heads.heads));
    rope::forward(q, inv_q, (q_raw, s.q), ctx.weight(&ctx.at.q_norm), s.eps, (ctx.rope, positions));
    let (k, inv_k) = (fit(&mut kept.k, s.n * s.kv), fit(&mut kept.inv_k, s.n * s.heads.kv_heads));
    let k_norm = ctx.weight(&ctx.at.k_norm);
    rope::forward(k, inv_k, (kv, 2 * s.kv), k_norm, s.eps, (ctx.rope, &ctx.packed.positions));
    let attended = fit(&mut kept.attended, s.m * s.q);
    let lse = fit(&mut kept.lse, s.m * s.heads.heads);
    attention::forward(&mut scratch.attention, ctx.attention_inputs(&s, q, k, kv), attended, lse);
    linear::forward(x2, attended, ctx.weight(&ctx.at.o), s.dims(s.m, s.q, s.c), Write::Add);
    let h2 = fit(&mut kept.h2, s.m * s.c);
    norm::forward(h2, fit(&mut kept.inv2, s.m), x2, ctx.weight(&ctx.at.post_norm), s.eps);
    let gate_up = fit(&mut kept.gate_up, s.m * 2 * s.inner);
    let dims = s.dims(s.m, s.c, 2 * s.inner);
    linear::forward(gate_up, h2, ctx.weight(&ctx.at.gate_up), dims, Write::Set);
    let act = fit(&mut kept.act, s.m * s.inner);
    swiglu::forward(act, gate_up, s.inner);
    let out = fit(out, s.m * s.c);
    out.copy_from_slice(x2);
    linear::forward(out, act, ctx.weight(&ctx.at.down), s.dims(s.m, s.inner, s.c), Write::Add);
}

/// Adds the layer's gradients to `grads`; `dx` holds the gradient of the output `[M, C]` and then, in `dinput`, that of
/// the input `[N, C]`. With all rows asked for the two are one buffer, swapped.
pub(crate) fn backward(
    ctx: Context<'_>,
    kept: &mut Kept,
    scratch: &mut Scratch,
    grads: &mut [f32],
    (dx_buffer, dinput): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let s = ctx.shape();
    let dx = fit(dx_buffer, s.m * s.c);
    mlp_backward(&ctx, &s, kept, scratch, grads, dx);

    let down_o = s.dims(s.m, s.q, s.c);
    let attended = &kept.attended[..s.m * s.q];
    linear::backward_weight(&mut grads[ctx.at.o.clone()], dx, attended, down_o);
    let dattended = fit(&mut scratch.dattended, s.m * s.q);
    linear::backward_input(dattended, dx, ctx.weight(&ctx.at.o), down_o, Write::Set);

    let kv = &kept.kv[..s.n * 2 * s.kv];
    let dq = fit(&mut scratch.dq, s.m * s.q);
    let dk = fit(&mut scratch.dk, s.n * s.kv);
    let dkv = fit(&mut scratch.dkv, s.n * 2 * s.kv);
    let inputs = ctx.attention_inputs(&s, &kept.q[..s.m * s.q], &kept.k[..s.n * s.kv], kv);
    let lse = &kept.lse[..s.m * s.heads.heads];
    let gradients = attention::Gradients { dq, dk, dv: &mut dkv[s.kv..] };
    attention::backward(&mut scratch.attention, inputs, (attended, lse), dattended, gradients);

    let (positions, _) = ctx.asking();
    let dq_raw = fit(&mut scratch.dq_raw, s.m * s.q);
    let (inv_q, inv_k) = (&kept.inv_q[..s.m * s.heads.heads], &kept.inv_k[..s.n * s.heads.kv_heads]);
    let q_norm = (inv_q, ctx.weight(&ctx.at.q_norm));
    let q_raw = (&kept.q_raw[..s.m * s.q], s.q);
    rope::backward(dq_raw, &mut grads[ctx.at.q_norm.clone()], dq, q_raw, q_norm, (ctx.rope, positions));
    let k_norm = (inv_k, ctx.weight(&ctx.at.k_norm));
    let at_keys = (ctx.rope, &ctx.packed.positions[..]);
    rope::backward(dkv, &mut grads[ctx.at.k_norm.clone()], dk, (kv, 2 * s.kv), k_norm, at_keys);

    let h1 = &kept.h1[..s.n * s.c];
    let dims = s.dims(s.n, s.c, 2 * s.kv);
    linear::backward_weight(&mut grads[ctx.at.kv.clone()], dkv, h1, dims);
    let dh = fit(&mut scratch.dh, s.n * s.c);
    linear::backward_input(dh, dkv, ctx.weight(&ctx.at.kv), dims, Write::Set);
    let dims = s.dims(s.m, s.c, s.q);
    let w_q = ctx.weight(&ctx.at.q);
    match ctx.demand {
        Demand::AllRows => {
            linear::backward_weight(&mut grads[ctx.at.q.clone()], dq_raw, h1, dims);
            linear::backward_input(dh, dq_raw, w_q, dims, Write::Add);
            std::mem::swap(dx_buffer, dinput);
        }
        Demand::NeededRows => {
            linear::backward_weight(&mut grads[ctx.at.q.clone()], dq_raw, &kept.h1_rows[..s.m * s.c], dims);
            let dh_rows = fit(&mut scratch.dh_rows, s.m * s.c);
            linear::backward_input(dh_rows, dq_raw, w_q, dims, Write::Set);
            embedding::scatter_add(dh, dh_rows, &ctx.packed.rows, s.c);
            let dinput = fit(dinput, s.n * s.c);
            dinput.fill(0.0);
            embedding::scatter_add(dinput, dx, &ctx.packed.rows, s.c);
        }
    }
    let w = ctx.weight(&ctx.at.input_norm);
    let dinput = fit(dinput, s.n * s.c);
    norm::backward(dinput, &mut grads[ctx.at.input_norm.clone()], dh, &kept.x[..s.n * s.c], &kept.inv1[..s.n], w);
}

/// Turns the gradient of the layer's output into that of the MLP's input.
fn mlp_backward(ctx: &Context<'_>, s: &Shape, kept: &mut Kept, scratch: &mut Scratch, grads: &mut [f32], dx: &mut [f32]) {
    let dims = s.dims(s.m, s.inner, s.c);
    linear::backward_weight(&mut grads[ctx.at.down.clone()], dx, &kept.act[..s.m * s.inner], dims);
    let dact = fit(&mut scratch.dact, s.m * s.inner);
    linear::backward_input(dact, dx, ctx.weight(&ctx.at.down), dims, Write::Set);
    let gate_up = &mut kept.gate_up[..s.m * 2 * s.inner];
    swiglu::backward_in_place(gate_up, dact, s.inner);
    let dims = s.dims(s.m, s.c, 2 * s.inner);
    linear::backward_weight(&mut grads[ctx.at.gate_up.clone()], gate_up, &kept.h2[..s.m * s.c], dims);
    let dh = fit(&mut scratch.dh, s.m * s.c);
    linear::backward_input(dh, gate_up, ctx.weight(&ctx.at.gate_up), dims, Write::Set);
    let w = ctx.weight(&ctx.at.post_norm);
    norm::backward(dx, &mut grads[ctx.at.post_norm.clone()], dh, &kept.x2[..s.m * s.c], &kept.inv2[..s.m], w);
}
