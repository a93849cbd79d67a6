//! All parameters in one flat slice, so that the optimiser is one loop and fused projections are one product.

use std::ops::Range;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::ModelConfig;

/// What a tensor is, as far as weight decay and initialisation care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding, which is also the output matrix: no decay.
    Embedding,
    /// A norm's weight: begins at one, no decay.
    Norm,
    /// A matrix inside a layer.
    Matrix,
    /// A matrix that writes to the residual stream: begins smaller by `√(2 layers)` (Radford et al. 2019, 2.3).
    ResidualMatrix,
}

/// One named tensor and its place in the flat slice.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in Hugging Face's files.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its place.
    pub range: Range<usize>,
    /// What it is.
    pub role: Role,
}

/// The places of one layer's tensors; neighbours that are used by one product are one range.
#[derive(Clone, Debug)]
pub(crate) struct LayerRanges {
    pub input_norm: Range<usize>,
    pub q: Range<usize>,
    /// Keys, then values.
    pub kv: Range<usize>,
    pub q_norm: Range<usize>,
    pub k_norm: Range<usize>,
    pub o: Range<usize>,
    pub post_norm: Range<usize>,
    /// Gates, then ups.
    pub gate_up: Range<usize>,
    pub down: Range<usize>,
}

/// Where every tensor lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The tensors, in the order of the flat slice.
    pub tensors: Vec<Tensor>,
    pub(crate) embedding: Range<usize>,
    pub(crate) layers: Vec<LayerRanges>,
    pub(crate) final_norm: Range<usize>,
}

impl Layout {
    /// The layout of a Qwen3 model.
    pub fn new(config: &ModelConfig) -> Self {
        let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut place = |name: String, shape: &[usize], role: Role| {
            let start = tensors.last().map_or(0, |t| t.range.end);
            let range = start..start + shape.iter().product::<usize>();
            tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), role });
            range
        };
        let embedding = place("model.embed_tokens.weight".into(), &[config.vocab_size, c], Role::Embedding);
        let layers = (0..config.num_hidden_layers)
            .map(|layer| {
                let mut at = |name: &str, shape: &[usize], role: Role| place(format!("model.layers.{layer}.{name}.weight"), shape, role);
                let input_norm = at("input_layernorm", &[c], Role::Norm);
                let q_range = at("self_attn.q_proj", &[q, c], Role::Matrix);
                let k = at("self_attn.k_proj", &[kv, c], Role::Matrix);
                let v = at("self_attn.v_proj", &[kv, c], Role::Matrix);
                let q_norm = at("self_attn.q_norm", &[d], Role::Norm);
                let k_norm = at("self_attn.k_norm", &[d], Role::Norm);
                let o = at("self_attn.o_proj", &[c, q], Role::ResidualMatrix);
                let post_norm = at("post_attention_layernorm", &[c], Role::Norm);
                let gate = at("mlp.gate_proj", &[i, c], Role::Matrix);
                let up = at("mlp.up_proj", &[i, c], Role::Matrix);
                let down = at("mlp.down_proj", &[c, i], Role::ResidualMatrix);
                let (kv, gate_up) = (k.start..v.end, gate.start..up.end);
                LayerRanges { input_norm, q: q_range, kv, q_norm, k_norm, o, post_norm, gate_up, down }
            })
            .collect();
        let final_norm = place("model.norm.weight".into(), &[c], Role::Norm);
        Self { tensors, embedding, layers, final_norm }
    }

    /// How many numbers all tensors have together.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }

    /// Whether there is no tensor, which is never so for a checked configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The parameters, or anything else of their shape.
#[derive(Clone, Debug)]
pub struct Params {
    /// Where every tensor lies.
    pub layout: Layout,
    /// All tensors.
    pub data: Vec<f32>,
}

impl Params {
    /// Fresh parameters: normal with the configuration's `initializer_range`.
    pub fn random(config: &ModelConfig, seed: u64) -> Self {
        let layout = Layout::new(config);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut data = vec![1.0; layout.len()];
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        for tensor in &layout.tensors {
            let deviation = match tensor.role {
                Role::Norm => continue,
                Role::Embedding | Role::Matrix => config.initializer_range,
                Role::ResidualMatrix => config.initializer_range * residual,
            };
            for x in &mut data[tensor.range.clone()] {
                *x = (deviation * normal(&mut rng)) as f32;
            }
        }
        Self { layout, data }
    }

    /// The numbers of one tensor, by its name in Hugging Face's files.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout.tensors.iter().find(|t| t.name == name).map(|t| &self.data[t.range.clone()])
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}
