//! Tests that the model agrees with an independent implementation in f64, which follows the definitions one token at a time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_learners::optim::AdamWConfig;
use milepost_learners::{ModelConfig, Precision, Sequence, Trainer};

struct Reference<'a> {
    trainer: &'a Trainer,
}

impl Reference<'_> {
    fn weight(&self, name: &str) -> Vec<f64> {
        self.trainer.model().params.get(name).unwrap().iter().map(|x| f64::from(*x)).collect()
    }

    fn layer_weight(&self, layer: usize, name: &str) -> Vec<f64> {
        self.weight(&format!("model.layers.{layer}.{name}.weight"))
    }
}

fn matvec(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn rms(x: &[f64], w: &[f64], eps: f64) -> Vec<f64> {
    let scale = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt();
    x.iter().zip(w).map(|(v, w)| v * scale * w).collect()
}

fn rope(x: &[f64], position: usize, theta: f64) -> Vec<f64> {
    let half = x.len() / 2;
    let mut out = vec![0.0; x.len()];
    for i in 0..half {
        let (s, c) = (position as f64 * theta.powf(-(2.0 * i as f64) / x.len() as f64)).sin_cos();
        out[i] = x[i] * c - x[i + half] * s;
        out[i + half] = x[i + half] * c + x[i] * s;
    }
    out
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::MIN, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - top).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|v| v / total).collect()
}

/// Returns the log-probabilities of all tokens of the vocabulary at every position.
fn reference(trainer: &Trainer, tokens: &[u32]) -> Vec<Vec<f64>> {
    let r = Reference { trainer };
    let c = &trainer.model().config;
    let (eps, d) = (c.rms_norm_eps, c.head_dim);
    let table = r.weight("model.embed_tokens.weight");
    let mut x: Vec<Vec<f64>> = tokens.iter().map(|t| table[*t as usize * c.hidden_size..][..c.hidden_size].to_vec()).collect();
    for layer in 0..c.num_hidden_layers {
        let w = |name: &str| r.layer_weight(layer, name);
        let h: Vec<Vec<f64>> = x.iter().map(|x| rms(x, &w("input_layernorm"), eps)).collect();
        let heads = |name: &str, norm: &str| -> Vec<Vec<Vec<f64>>> {
            let (p, n) = (w(&format!("self_attn.{name}_proj")), w(&format!("self_attn.{norm}")));
            let split = |(t, h): (usize, &Vec<f64>)| matvec(&p, h).chunks(d).map(|x| rope(&rms(x, &n, eps), t, c.rope_theta)).collect();
            h.iter().enumerate().map(split).collect()
        };
        let (q, k) = (heads("q", "q_norm"), heads("k", "k_norm"));
        let vw = w("self_attn.v_proj");
        let v: Vec<Vec<f64>> = h.iter().map(|h| matvec(&vw, h)).collect();
        let (ow, post) = (w("self_attn.o_proj"), w("post_attention_layernorm"));
        let (gate, up, down) = (w("mlp.gate_proj"), w("mlp.up_proj"), w("mlp.down_proj"));
        for t in 0..tokens.len() {
            let mut attended = Vec::new();
            for (head, query) in q[t].iter().enumerate() {
                let kv = head / (c.num_attention_heads / c.num_key_value_heads);
                let scores: Vec<f64> =
                    (0..=t).map(|s| query.iter().zip(&k[s][kv]).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt()).collect();
                let p = softmax(&scores);
                attended.extend((0..d).map(|i| (0..=t).map(|s| p[s] * v[s][kv * d + i]).sum::<f64>()));
            }
            let x2: Vec<f64> = x[t].iter().zip(matvec(&ow, &attended)).map(|(a, b)| a + b).collect();
            let h2 = rms(&x2, &post, eps);
            let act: Vec<f64> = matvec(&gate, &h2).iter().zip(matvec(&up, &h2)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            x[t] = x2.iter().zip(matvec(&down, &act)).map(|(a, b)| a + b).collect();
        }
    }
    let norm = r.weight("model.norm.weight");
    x.iter().map(|x| softmax(&matvec(&table, &rms(x, &norm, eps))).iter().map(|p| p.ln()).collect()).collect()
}

fn tiny() -> ModelConfig {
    let mut config = ModelConfig::seed(40, 0, 1);
    config.hidden_size = 16;
    config.intermediate_size = 24;
    config.num_hidden_layers = 3;
    config.head_dim = 8;
    config.initializer_range = 0.3;
    config
}

#[test]
fn log_probabilities_agree_with_the_definition() {
    let mut trainer = Trainer::random(tiny(), 3, AdamWConfig::default()).unwrap();
    trainer.set_precision(Precision::F32);
    let tokens = |len: u32, seed: u32| (0..len).map(|i| (i * i * 7 + i * 3 + seed) % 40).collect::<Vec<u32>>();
    // The first sequence fills more than a block and all its positions are scored; the second is packed with it and some are scored.
    let all = Sequence { tokens: tokens(90, 1), weights: vec![1.0; 90], ..Default::default() };
    let some = Sequence {
        tokens: tokens(30, 5),
        weights: (0..30).map(|i| if [4, 5, 20].contains(&i) { 1.0 } else { 0.0 }).collect(),
        ..Default::default()
    };
    let got = trainer.logprobs(&[all.clone(), some.clone()]).unwrap();
    for (sequence, got) in [all, some].iter().zip(got) {
        let want = reference(&trainer, &sequence.tokens);
        for i in 1..sequence.tokens.len() {
            if sequence.weights[i] != 0.0 {
                let want = want[i - 1][sequence.tokens[i] as usize];
                assert!((f64::from(got[i]) - want).abs() < 1e-4, "token {i}: {} against {want}", got[i]);
            } else {
                assert_eq!(got[i], 0.0);
            }
        }
    }
}
