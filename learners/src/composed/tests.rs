//! Checks that each operation of the crate's own kernels agrees with its composed form, in values and gradients.

use candle_core::{DType, Device, Tensor, Var};

use super::{attention as composed_attention, gradients, head, operations, packed, product};
use crate::ops::attention::{self, Heads, Span};
use crate::ops::head::{Gradients, Inputs, LogitsProcessor, Weights, cross_entropy};
use crate::ops::linear::{self, Dims};
use crate::ops::matmul::{Precision, Write};
use crate::ops::rope::{self, RopeTable};
use crate::ops::{norm, swiglu};
use crate::testing::random;

/// The result of an operation: its value, and the gradient of each input for a given gradient of the value.
type Evaluation = (Vec<f32>, Vec<Vec<f32>>);

/// Evaluates a composed operation on these inputs, with `dy` as the gradient of its value.
fn composed(inputs: &[(&[f32], &[usize])], dy: &[f32], operation: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>) -> Evaluation {
    let inputs: Vec<Tensor> = inputs.iter().map(|(x, shape)| Var::from_slice(x, *shape, &Device::Cpu).unwrap().into_inner()).collect();
    let y = operation(&inputs).unwrap();
    let dy = Tensor::from_slice(dy, y.shape(), &Device::Cpu).unwrap();
    let mut store = (&y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of_inputs = inputs.iter().map(|x| flat(gradients::gradient(&mut store, x).unwrap())).collect();
    (flat(y), of_inputs)
}

/// Checks that two evaluations agree, and that no gradient is zero.
fn check(name: &str, own: Evaluation, composed: Evaluation) {
    let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
    assert!(close(&own.0, &composed.0), "{name}: {:?} {:?}", own.0, composed.0);
    assert_eq!(own.1.len(), composed.1.len());
    for (input, (own, composed)) in own.1.iter().zip(&composed.1).enumerate() {
        assert!(own.iter().any(|g| g.abs() > 1e-3) && close(own, composed), "{name}, input {input}: {own:?} {composed:?}");
    }
}

fn own_linear((x, w, dy): (&[f32], &[f32], &[f32]), d: Dims) -> Evaluation {
    let (mut y, mut dx, mut dw) = (vec![0.0; d.rows * d.outputs], vec![0.0; x.len()], vec![0.0; w.len()]);
    linear::forward(&mut y, x, w, d, Write::Set);
    linear::backward_input(&mut dx, dy, w, d, Write::Set);
    linear::backward_weight(&mut dw, dy, x, d);
    (y, vec![dx, dw])
}

fn own_norm((x, w, dy): (&[f32], &[f32], &[f32])) -> Evaluation {
    let (mut y, mut inv, mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; x.len() / w.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    norm::forward(&mut y, &mut inv, x, w, 1e-6);
    norm::backward(&mut dx, &mut dw, dy, x, &inv, w);
    (y, vec![dx, dw])
}

fn own_rope((x, w, dy): (&[f32], &[f32], &[f32]), table: &RopeTable, positions: &[u32]) -> Evaluation {
    let width = x.len() / positions.len();
    let (mut y, mut inv) = (vec![0.0; x.len()], vec![0.0; x.len() / w.len()]);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    rope::forward(&mut y, &mut inv, (x, width), w, 1e-6, (table, positions));
    rope::backward(&mut dx, &mut dw, &mut dy.to_vec(), (x, width), (&inv, w), (table, positions));
    (y, vec![dx, dw])
}

fn own_swiglu(gate_up: &[f32], dy: &[f32], inner: usize) -> Evaluation {
    let (mut y, mut slope) = (vec![0.0; dy.len()], gate_up.to_vec());
    swiglu::forward(&mut y, gate_up, inner);
    swiglu::backward_in_place(&mut slope, dy, inner);
    (y, vec![slope])
}

fn own_attention(inputs: attention::Inputs<'_>, dy: &[f32]) -> Evaluation {
    let (mut out, mut lse) = (vec![0.0; dy.len()], vec![0.0; inputs.positions.len() * inputs.heads.heads]);
    let (mut dq, mut dk, mut dv) = (vec![0.0; inputs.q.len()], vec![0.0; inputs.k.len()], vec![0.0; inputs.v.len()]);
    let mut scratch = attention::Scratch::default();
    attention::forward(&mut scratch, inputs, &mut out, &mut lse);
    let gradients = attention::Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    attention::backward(&mut scratch, inputs, (&out, &lse), dy, gradients);
    (out, vec![dq, dk, dv])
}

#[test]
fn each_operation_agrees_with_its_composed_form() {
    let (x, w, dy) = (random(35, 1), random(21, 2), random(15, 3));
    let d = Dims { rows: 5, inputs: 7, outputs: 3, precision: Precision::F32 };
    let linear = |t: &[Tensor]| product::linear(&t[0], &t[1], DType::F32);
    check("linear", own_linear((&x, &w, &dy), d), composed(&[(&x, &[5, 7]), (&w, &[3, 7])], &dy, linear));
    let (value, mut gradients) = own_linear((&x, &w, &dy), d);
    gradients.truncate(1);
    let frozen = Tensor::from_slice(&w, (3, 7), &Device::Cpu).unwrap();
    let linear = |t: &[Tensor]| product::linear(&t[0], &frozen, DType::F32);
    check("linear, frozen", (value, gradients), composed(&[(&x, &[5, 7])], &dy, linear));

    let (x, w, dy) = (random(60, 1), random(20, 2), random(60, 3));
    let rms = |t: &[Tensor]| operations::rms_norm(&t[0], &t[1], 1e-6);
    check("norm", own_norm((&x, &w, &dy)), composed(&[(&x, &[3, 20]), (&w, &[20])], &dy, rms));

    let (table, positions) = (RopeTable::new(4, 100.0, 16, |f| f), [0u32, 3, 11]);
    let (x, w, dy) = (random(24, 1), random(4, 2), random(24, 3));
    let (cos, sin, half) = table.tables();
    let rotations = |all: &[f32]| {
        let rows: Vec<f32> = positions.iter().flat_map(|p| all[*p as usize * half..][..half].to_vec()).collect();
        Tensor::from_vec(rows, (3, 1, half), &Device::Cpu).unwrap()
    };
    let (cos, sin) = (rotations(cos), rotations(sin));
    let rotated = |t: &[Tensor]| operations::rope(&operations::rms_norm(&t[0], &t[1], 1e-6)?, (&cos, &sin));
    check("rope", own_rope((&x, &w, &dy), &table, &positions), composed(&[(&x, &[3, 2, 4]), (&w, &[4])], &dy, rotated));

    let (x, dy) = (random(36, 1), random(18, 2));
    check("swiglu", own_swiglu(&x, &dy, 9), composed(&[(&x, &[2, 18])], &dy, |t| operations::swiglu(&t[0])));
}

#[test]
fn attention_agrees_with_its_composed_form() {
    // The first span is a prefix of three tokens that two sequences share; one sequence is alone. There are four query heads and two key heads.
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 4 };
    let spans = [
        Span { queries: 0..3, prefix: 0..0, keys: 0..3 },
        Span { queries: 3..5, prefix: 0..3, keys: 3..5 },
        Span { queries: 5..8, prefix: 0..3, keys: 5..8 },
        Span { queries: 8..10, prefix: 0..0, keys: 8..10 },
    ];
    let positions = [0, 1, 2, 3, 4, 3, 4, 5, 0, 1];
    let (q, k, v, dy) = (random(160, 1), random(80, 2), random(80, 3), random(160, 4));
    let precision = Precision::F32;
    let inputs = attention::Inputs { q: &q, k: &k, v: &v, v_stride: 8, positions: &positions, spans: &spans, heads, precision };
    let blocks = spans.iter().flat_map(|span| packed::blocks(span, &positions, &Device::Cpu));
    let blocks = blocks.collect::<candle_core::Result<Vec<_>>>().unwrap();
    let attend = |t: &[Tensor]| composed_attention::attention((&t[0], &t[1], &t[2]), &blocks, heads, DType::F32);
    check("attention", own_attention(inputs, &dy), composed(&[(&q, &[10, 16]), (&k, &[10, 8]), (&v, &[10, 8])], &dy, attend));
}

#[test]
fn the_head_agrees_with_its_composed_form() {
    let (x, table, weights, bonuses) = (random(15, 1), random(35, 2), [1.0, -0.4, 2.0], [0.0, 1.5, -0.8]);
    let targets = [6, 0, 3];
    // The second row allows only the tokens 0, 1, 2 and 5 and has another temperature.
    let processors =
        [LogitsProcessor::default(), LogitsProcessor { allowed: Some([0b10_0111].into()), temperature: 0.7 }, LogitsProcessor::default()];
    let inputs = Inputs { x: &x, table: &table, targets: &targets, processors: &processors, width: 5, precision: Precision::F32 };
    let (mut dx, mut dtable, mut scores) = (vec![0.0; 15], vec![0.0; 35], Vec::new());
    let gradients = Gradients { dx: &mut dx, dtable: Some(&mut dtable) };
    cross_entropy(&mut Vec::new(), inputs, Weights { logprobs: &weights, entropies: &bonuses }, &mut scores, gradients);
    let losses = scores.iter().enumerate().map(|(m, s)| -weights[m] * s.logprob - bonuses[m] * s.entropy).collect();
    let row = |x: &[f32]| Tensor::from_slice(x, 3, &Device::Cpu).unwrap();
    let (weights, bonuses) = (row(&weights), row(&bonuses));
    let loss = |t: &[Tensor]| {
        let chunk = head::score_logits(&product::linear(&t[0], &t[1], DType::F32)?, &targets, &processors)?;
        assert_eq!(chunk.scores()?.iter().map(|s| s.exact).collect::<Vec<_>>(), scores.iter().map(|s| s.exact).collect::<Vec<_>>());
        ((chunk.logprobs * &weights)? + (chunk.entropies * &bonuses)?)?.neg()
    };
    check("head", (losses, vec![dx, dtable]), composed(&[(&x, &[3, 5]), (&table, &[7, 5])], &[1.0; 3], loss));
}
