//! All parameters in one flat slice, so that the optimiser is one loop and fused projections are one product.

use std::ops::Range;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::ModelConfig;
use super::frozen::FrozenMatrices;

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
#[derive(Clone, Debug, Default)]
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
    /// Where the matrices of the layers begin; they come last.
    pub(crate) matrices: usize,
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
        let small: Vec<_> = (0..config.num_hidden_layers).map(|layer| place_small(config, layer, &mut place)).collect();
        let final_norm = place("model.norm.weight".into(), &[c], Role::Norm);
        let head = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => place("lm_head.weight".into(), &[config.vocab_size, c], Role::Embedding),
        };
        let layers: Vec<_> =
            small.into_iter().enumerate().map(|(layer, ranges)| place_matrices(ranges, config, layer, &mut place)).collect();
        let matrices = layers.first().map_or(0, |layer| layer.q.start);
        Self { tensors, embedding, head, layers, final_norm, matrices }
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

/// Places the small tensors of one layer.
fn place_small(config: &ModelConfig, layer: usize, mut place: impl FnMut(String, &[usize], Role) -> Range<usize>) -> LayerRanges {
    let (c, d) = (config.hidden_size, config.head_dim);
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut at = |name: &str, shape: &[usize], role: Role| place(format!("model.layers.{layer}.{name}"), shape, role);
    let mut ranges = LayerRanges { input_norm: at("input_layernorm.weight", &[c], Role::Norm), ..Default::default() };
    if config.has_bias() {
        ranges.q_bias = at("self_attn.q_proj.bias", &[q], Role::Bias);
        ranges.kv_bias = at("self_attn.k_proj.bias", &[kv], Role::Bias).start..at("self_attn.v_proj.bias", &[kv], Role::Bias).end;
    }
    if config.has_head_norm() {
        ranges.q_norm = at("self_attn.q_norm.weight", &[d], Role::Norm);
        ranges.k_norm = at("self_attn.k_norm.weight", &[d], Role::Norm);
    }
    ranges.post_norm = at("post_attention_layernorm.weight", &[c], Role::Norm);
    ranges
}

/// Places the matrices of one layer.
fn place_matrices(
    ranges: LayerRanges,
    config: &ModelConfig,
    layer: usize,
    mut place: impl FnMut(String, &[usize], Role) -> Range<usize>,
) -> LayerRanges {
    let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut at = |name: &str, shape: &[usize], role: Role| place(format!("model.layers.{layer}.{name}.weight"), shape, role);
    LayerRanges {
        q: at("self_attn.q_proj", &[q, c], Role::Matrix),
        kv: at("self_attn.k_proj", &[kv, c], Role::Matrix).start..at("self_attn.v_proj", &[kv, c], Role::Matrix).end,
        o: at("self_attn.o_proj", &[c, q], Role::ResidualMatrix),
        gate_up: at("mlp.gate_proj", &[i, c], Role::Matrix).start..at("mlp.up_proj", &[i, c], Role::Matrix).end,
        down: at("mlp.down_proj", &[c, i], Role::ResidualMatrix),
        ..ranges
    }
}

/// The parameters, or anything else of their shape.
#[derive(Clone, Debug)]
pub struct Params {
    /// Where every tensor lies.
    pub layout: Layout,
    /// All tensors; without the matrices of the layers where those are frozen in a smaller type.
    pub data: Vec<f32>,
    /// Those.
    pub(crate) frozen: FrozenMatrices,
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
        Self { layout, data, frozen: FrozenMatrices::new() }
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
