//! The parameters of a model, in one flat slice: the optimiser is one loop over it, and neighbouring projections are computed by one product.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::ModelConfig;
use crate::ops::frozen::FrozenMatrix;

/// The role of a tensor, which decides its weight decay and its initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding or the output matrix: no weight decay.
    Embedding,
    /// The weight of a norm: initialised to 1, no weight decay.
    Norm,
    /// A bias: initialised to 0, no weight decay.
    Bias,
    /// A matrix inside a transformer layer.
    Matrix,
    /// A matrix whose output is added to the residual stream: its initial values are divided by `√(2 layers)` (Radford et al. 2019, section 2.3).
    ResidualMatrix,
}

/// A named tensor and its range in the flat slice.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name in Hugging Face's files.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The range in the flat slice.
    pub range: Range<usize>,
    /// The role.
    pub role: Role,
}

/// The ranges of one layer's tensors in the flat slice. Neighbouring tensors that one product uses together are one range.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerRanges {
    pub input_norm: Range<usize>,
    pub q: Range<usize>,
    /// The bias of the queries; empty if the model has none.
    pub q_bias: Range<usize>,
    /// The projection to the keys, then the projection to the values.
    pub kv: Range<usize>,
    /// The biases of the keys, then those of the values; empty if the model has none.
    pub kv_bias: Range<usize>,
    /// The weight of the norm of each query head; empty if the model has none.
    pub q_norm: Range<usize>,
    /// The weight of the norm of each key head; empty if the model has none.
    pub k_norm: Range<usize>,
    pub o: Range<usize>,
    pub post_norm: Range<usize>,
    /// The gate projection, then the up projection.
    pub gate_up: Range<usize>,
    pub down: Range<usize>,
}

/// The layout of all tensors in the flat slice.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The tensors, in the order of the flat slice.
    pub tensors: Vec<Tensor>,
    pub(crate) embedding: Range<usize>,
    /// The output matrix; equal to `embedding` if the two are tied.
    pub(crate) head: Range<usize>,
    pub(crate) layers: Vec<LayerRanges>,
    pub(crate) final_norm: Range<usize>,
    /// The start of the layers' matrices, which come last in the slice.
    pub(crate) matrices: usize,
}

impl Layout {
    /// Creates the layout of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let c = config.hidden_size;
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut allocate = |name: String, shape: &[usize], role: Role| {
            let start = tensors.last().map_or(0, |t| t.range.end);
            let range = start..start + shape.iter().product::<usize>();
            tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), role });
            range
        };
        let embedding = allocate("model.embed_tokens.weight".into(), &[config.vocab_size, c], Role::Embedding);
        let small: Vec<_> = (0..config.num_hidden_layers).map(|layer| lay_out_small(config, layer, &mut allocate)).collect();
        let final_norm = allocate("model.norm.weight".into(), &[c], Role::Norm);
        let head = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => allocate("lm_head.weight".into(), &[config.vocab_size, c], Role::Embedding),
        };
        let layers: Vec<_> =
            small.into_iter().enumerate().map(|(layer, ranges)| lay_out_matrices(ranges, config, layer, &mut allocate)).collect();
        let matrices = layers.first().map_or(0, |layer| layer.q.start);
        Self { tensors, embedding, head, layers, final_norm, matrices }
    }

    /// Returns the number of parameters in all tensors together.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }

    /// Returns whether there are no parameters, which is never the case for a checked configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lays out the small tensors of one layer: norms and biases.
fn lay_out_small(config: &ModelConfig, layer: usize, mut allocate: impl FnMut(String, &[usize], Role) -> Range<usize>) -> LayerRanges {
    let (c, d) = (config.hidden_size, config.head_dim);
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut at = |name: &str, shape: &[usize], role: Role| allocate(format!("model.layers.{layer}.{name}"), shape, role);
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

/// Lays out the matrices of one layer, and completes its ranges with them.
fn lay_out_matrices(
    ranges: LayerRanges,
    config: &ModelConfig,
    layer: usize,
    mut allocate: impl FnMut(String, &[usize], Role) -> Range<usize>,
) -> LayerRanges {
    let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut at = |name: &str, shape: &[usize], role: Role| allocate(format!("model.layers.{layer}.{name}.weight"), shape, role);
    LayerRanges {
        q: at("self_attn.q_proj", &[q, c], Role::Matrix),
        kv: at("self_attn.k_proj", &[kv, c], Role::Matrix).start..at("self_attn.v_proj", &[kv, c], Role::Matrix).end,
        o: at("self_attn.o_proj", &[c, q], Role::ResidualMatrix),
        gate_up: at("mlp.gate_proj", &[i, c], Role::Matrix).start..at("mlp.up_proj", &[i, c], Role::Matrix).end,
        down: at("mlp.down_proj", &[c, i], Role::ResidualMatrix),
        ..ranges
    }
}

/// Linear weights in a compact number format, by the start of their range in the layout.
pub(crate) type FrozenMatrices = BTreeMap<usize, FrozenMatrix>;

/// The parameters of a model.
#[derive(Clone, Debug)]
pub struct Params {
    /// The layout of the tensors.
    pub layout: Layout,
    /// The values of all tensors, without the matrices of the layers if those are frozen in a compact format.
    pub data: Vec<f32>,
    /// The matrices of the layers, if they are frozen in a compact format.
    pub(crate) frozen: FrozenMatrices,
}

impl Params {
    /// Creates random parameters: matrices are drawn from a normal distribution with the standard deviation `initializer_range`.
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

    /// Returns the values of a tensor by its name in Hugging Face's files; `None` if there is no such tensor.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout.tensors.iter().find(|t| t.name == name).map(|t| &self.data[t.range.clone()])
    }
}

/// Draws a standard normal number (Box and Muller 1958). It is written by hand because a model that a recipe trains from a seed depends on
/// these very draws.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}
