//! One layer, forward and backward.

use super::frozen::FrozenMatrices;
use super::linear::{Low, LowScratch, Sink, Site};
use super::packed::Packed;
use super::params::LayerRanges;
use super::{Demand, ModelConfig};
use crate::ops::attention::{self, Heads, Inputs, Span};
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

/// Keys and values of the positions that were read, where a sequence is read on.
#[derive(Default)]
pub(crate) struct Cache {
    k: Vec<f32>,
    kv: Vec<f32>,
}

impl Kept {
    /// Takes in what an earlier pass left, or hands it back.
    pub(crate) fn swap(&mut self, cache: &mut Cache) {
        std::mem::swap(&mut self.k, &mut cache.k);
        std::mem::swap(&mut self.kv, &mut cache.kv);
    }
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
    low: LowScratch,
    spare: Vec<f32>,
}

/// What every layer is called with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub config: &'a ModelConfig,
    pub rope: &'a RopeTable,
    pub packed: &'a Packed,
    /// All parameters.
    pub params: &'a [f32],
    /// Matrices that are kept in a smaller type.
    pub frozen: &'a FrozenMatrices,
    /// This layer's places among them.
    pub at: &'a LayerRanges,
    /// The adapters beside it.
    pub low: Option<Low<'a>>,
    /// Which rows of its output are needed.
    pub demand: Demand,
    /// The numbers that products are computed in.
    pub precision: Precision,
}

struct Shape {
    /// Rows of keys and values that are there already.
    past: usize,
    n: usize,
    m: usize,
    c: usize,
    inner: usize,
    q: usize,
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
            m: self.asking().0.len(),
            c: self.config.hidden_size,
            inner: self.config.intermediate_size,
            q: heads.heads * heads.head_dim,
            kv: heads.kv_heads * heads.head_dim,
            heads,
            eps: self.config.rms_norm_eps as f32,
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
    ctx.linear(Site::Q, q_raw, asking, s.m, Write::Set, &mut scratch.low);
    let kv = fit(&mut kept.kv, (s.past + s.n) * 2 * s.kv);
    let new_kv = &mut kv[s.past * 2 * s.kv..];
    ctx.linear(Site::Kv, new_kv, h1, s.n, Write::Set, &mut scratch.low);
    let (q, inv_q) = (fit(&mut kept.q, s.m * s.q), fit(&mut kept.inv_q, s.m * s.heads.heads));
    rope::forward(q, inv_q, (q_raw, s.q), ctx.weight(&ctx.at.q_norm), s.eps, (ctx.rope, positions));
    let (k, inv_k) = (fit(&mut kept.k, (s.past + s.n) * s.kv), fit(&mut kept.inv_k, s.n * s.heads.kv_heads));
    let k_norm = ctx.weight(&ctx.at.k_norm);
    rope::forward(&mut k[s.past * s.kv..], inv_k, (new_kv, 2 * s.kv), k_norm, s.eps, (ctx.rope, &ctx.packed.positions));
    let attended = fit(&mut kept.attended, s.m * s.q);
    let lse = fit(&mut kept.lse, s.m * s.heads.heads);
    attention::forward(&mut scratch.attention, ctx.attention_inputs(&s, q, k, kv), attended, lse);
    ctx.linear(Site::O, x2, attended, s.m, Write::Add, &mut scratch.low);
    let h2 = fit(&mut kept.h2, s.m * s.c);
    norm::forward(h2, fit(&mut kept.inv2, s.m), x2, ctx.weight(&ctx.at.post_norm), s.eps);
    let gate_up = fit(&mut kept.gate_up, s.m * 2 * s.inner);
    ctx.linear(Site::GateUp, gate_up, h2, s.m, Write::Set, &mut scratch.low);
    let act = fit(&mut kept.act, s.m * s.inner);
    swiglu::forward(act, gate_up, s.inner);
    let out = fit(out, s.m * s.c);
    out.copy_from_slice(x2);
    ctx.linear(Site::Down, out, act, s.m, Write::Add, &mut scratch.low);
}

/// Adds the layer's gradients to the sink; `dx` holds the gradient of the output `[M, C]` and then, in `dinput`, that of
/// the input `[N, C]`. With all rows asked for the two are one buffer, swapped.
pub(crate) fn backward(
    ctx: Context<'_>,
    kept: &mut Kept,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
    (dx_buffer, dinput): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let s = ctx.shape();
    let dx = fit(dx_buffer, s.m * s.c);
    mlp_backward(&ctx, &s, kept, scratch, sink, dx);
    attention_backward(&ctx, &s, kept, scratch, sink, dx);
    let h1 = &kept.h1[..s.n * s.c];
    let dh = fit(&mut scratch.dh, s.n * s.c);
    let dkv = &scratch.dkv[..s.n * 2 * s.kv];
    ctx.linear_backward(Site::Kv, (dkv, h1), (dh, Write::Set), s.n, sink, &mut scratch.low);
    let dq_raw = &scratch.dq_raw[..s.m * s.q];
    match ctx.demand {
        Demand::AllRows => {
            ctx.linear_backward(Site::Q, (dq_raw, h1), (dh, Write::Add), s.m, sink, &mut scratch.low);
            std::mem::swap(dx_buffer, dinput);
        }
        Demand::NeededRows => {
            let dh_rows = fit(&mut scratch.dh_rows, s.m * s.c);
            ctx.linear_backward(Site::Q, (dq_raw, &kept.h1_rows[..s.m * s.c]), (dh_rows, Write::Set), s.m, sink, &mut scratch.low);
            embedding::scatter_add(dh, dh_rows, &ctx.packed.rows, s.c);
            let dinput = fit(dinput, s.n * s.c);
            dinput.fill(0.0);
            embedding::scatter_add(dinput, dx, &ctx.packed.rows, s.c);
        }
    }
    let dnorm = sink.or_spare(&ctx.at.input_norm, &mut scratch.spare);
    let dinput = fit(dinput, s.n * s.c);
    norm::backward(dinput, dnorm, dh, &kept.x[..s.n * s.c], &kept.inv1[..s.n], ctx.weight(&ctx.at.input_norm));
}

/// Turns the gradient of what attention wrote into those of queries (`dq_raw`), and of keys and values (`dkv`).
fn attention_backward(ctx: &Context<'_>, s: &Shape, kept: &Kept, scratch: &mut Scratch, sink: &mut Sink<'_>, dx: &[f32]) {
    let attended = &kept.attended[..s.m * s.q];
    let dattended = fit(&mut scratch.dattended, s.m * s.q);
    ctx.linear_backward(Site::O, (dx, attended), (dattended, Write::Set), s.m, sink, &mut scratch.low);

    let kv = &kept.kv[..s.n * 2 * s.kv];
    let dq = fit(&mut scratch.dq, s.m * s.q);
    let dk = fit(&mut scratch.dk, s.n * s.kv);
    let dkv = fit(&mut scratch.dkv, s.n * 2 * s.kv);
    let inputs = ctx.attention_inputs(s, &kept.q[..s.m * s.q], &kept.k[..s.n * s.kv], kv);
    let lse = &kept.lse[..s.m * s.heads.heads];
    let gradients = attention::Gradients { dq, dk, dv: &mut dkv[s.kv..] };
    attention::backward(&mut scratch.attention, inputs, (attended, lse), dattended, gradients);

    let (positions, _) = ctx.asking();
    let dq_raw = fit(&mut scratch.dq_raw, s.m * s.q);
    let (inv_q, inv_k) = (&kept.inv_q[..s.m * s.heads.heads], &kept.inv_k[..s.n * s.heads.kv_heads]);
    let q_norm = (inv_q, ctx.weight(&ctx.at.q_norm));
    let q_raw = (&kept.q_raw[..s.m * s.q], s.q);
    let dnorm = sink.or_spare(&ctx.at.q_norm, &mut scratch.spare);
    rope::backward(dq_raw, dnorm, dq, q_raw, q_norm, (ctx.rope, positions));
    let k_norm = (inv_k, ctx.weight(&ctx.at.k_norm));
    let at_keys = (ctx.rope, &ctx.packed.positions[..]);
    let dnorm = sink.or_spare(&ctx.at.k_norm, &mut scratch.spare);
    rope::backward(dkv, dnorm, dk, (kv, 2 * s.kv), k_norm, at_keys);
}

/// Turns the gradient of the layer's output into that of the MLP's input.
fn mlp_backward(ctx: &Context<'_>, s: &Shape, kept: &mut Kept, scratch: &mut Scratch, sink: &mut Sink<'_>, dx: &mut [f32]) {
    let dact = fit(&mut scratch.dact, s.m * s.inner);
    ctx.linear_backward(Site::Down, (&*dx, &kept.act[..s.m * s.inner]), (dact, Write::Set), s.m, sink, &mut scratch.low);
    let gate_up = &mut kept.gate_up[..s.m * 2 * s.inner];
    swiglu::backward_in_place(gate_up, dact, s.inner);
    let dh = fit(&mut scratch.dh, s.m * s.c);
    ctx.linear_backward(Site::GateUp, (&*gate_up, &kept.h2[..s.m * s.c]), (dh, Write::Set), s.m, sink, &mut scratch.low);
    let dnorm = sink.or_spare(&ctx.at.post_norm, &mut scratch.spare);
    norm::backward(dx, dnorm, dh, &kept.x2[..s.m * s.c], &kept.inv2[..s.m], ctx.weight(&ctx.at.post_norm));
}
