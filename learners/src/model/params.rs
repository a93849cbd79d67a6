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
    /// A bias: begins at zero, no decay.
    Bias,
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
    /// Empty where there is none.
    pub q_bias: Range<usize>,
    /// Keys, then values.
    pub kv: Range<usize>,
    /// Keys, then values; empty where there is none.
    pub kv_bias: Range<usize>,
    /// Empty where there is none.
    pub q_norm: Range<usize>,
    /// Empty where there is none.
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
    /// The output matrix; the embedding where the two are tied.
    pub(crate) head: Range<usize>,
    pub(crate) layers: Vec<LayerRanges>,
    pub(crate) final_norm: Range<usize>,
}

impl Layout {
    /// The layout of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let c = config.hidden_size;
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut place = |name: String, shape: &[usize], role: Role| {
            let start = tensors.last().map_or(0, |t| t.range.end);
            let range = start..start + shape.iter().product::<usize>();
            tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), role });
            range
        };
        let embedding = place("model.embed_tokens.weight".into(), &[config.vocab_size, c], Role::Embedding);
        let layers = (0..config.num_hidden_layers).map(|layer| layer_ranges(config, layer, &mut place)).collect();
        let final_norm = place("model.norm.weight".into(), &[c], Role::Norm);
        let head = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => place("lm_head.weight".into(), &[config.vocab_size, c], Role::Embedding),
        };
        Self { tensors, embedding, head, layers, final_norm }
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

/// Places the tensors of one layer.
fn layer_ranges(config: &ModelConfig, layer: usize, mut place: impl FnMut(String, &[usize], Role) -> Range<usize>) -> LayerRanges {
    let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut at = |name: &str, shape: &[usize], role: Role| place(format!("model.layers.{layer}.{name}"), shape, role);
    let input_norm = at("input_layernorm.weight", &[c], Role::Norm);
    let q_range = at("self_attn.q_proj.weight", &[q, c], Role::Matrix);
    let k = at("self_attn.k_proj.weight", &[kv, c], Role::Matrix);
    let v = at("self_attn.v_proj.weight", &[kv, c], Role::Matrix);
    let (mut q_bias, mut kv_bias, mut q_norm, mut k_norm) = (0..0, 0..0, 0..0, 0..0);
    if config.has_bias() {
        q_bias = at("self_attn.q_proj.bias", &[q], Role::Bias);
        kv_bias = at("self_attn.k_proj.bias", &[kv], Role::Bias).start..at("self_attn.v_proj.bias", &[kv], Role::Bias).end;
    }
    if config.has_head_norm() {
        q_norm = at("self_attn.q_norm.weight", &[d], Role::Norm);
        k_norm = at("self_attn.k_norm.weight", &[d], Role::Norm);
    }
    let o = at("self_attn.o_proj.weight", &[c, q], Role::ResidualMatrix);
    let post_norm = at("post_attention_layernorm.weight", &[c], Role::Norm);
    let gate = at("mlp.gate_proj.weight", &[i, c], Role::Matrix);
    let up = at("mlp.up_proj.weight", &[i, c], Role::Matrix);
    let down = at("mlp.down_proj.weight", &[c, i], Role::ResidualMatrix);
    let (kv, gate_up) = (k.start..v.end, gate.start..up.end);
    LayerRanges { input_norm, q: q_range, q_bias, kv, kv_bias, q_norm, k_norm, o, post_norm, gate_up, down }
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
                Role::Bias => 0.0,
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
