//! The transformer of Qwen3, Qwen2 and Llama: forward and backward pass over packed sequences.

use super::config::RopeScaling;
use super::context::Context;
use super::layer::{self, Activations, KvCache, Scratch};
use super::linear::GradientSink;
use super::packed::OutputRows;
use super::{ModelConfig, Packed, Params, Storage};
use crate::Result;
use crate::adapter::Adapter;
use crate::ops::head::{self, Score};
use crate::ops::matmul::Precision;
use crate::ops::rope::RopeTable;
use crate::ops::{embedding, fit, norm};

/// The maximum length of a sequence, even if the model supports more positions.
pub const MAX_TOKENS: usize = 16_384;

/// A model: its configuration, its parameters, and an adapter if one is trained.
#[derive(Clone, Debug)]
pub struct Model {
    /// The shape.
    pub config: ModelConfig,
    /// The parameters.
    pub params: Params,
    /// The adapter beside the parameters; if there is one, the parameters are frozen.
    pub adapter: Option<Adapter>,
    /// The precision of matrix products.
    pub precision: Precision,
    /// Whether only each layer's input is saved, and its other activations are computed again in the backward pass (Chen et al. 2016).
    pub recompute: bool,
    pub(crate) rope: RopeTable,
}

/// The buffers of one worker. They grow to the size of the largest micro-batch and are reused.
#[derive(Default)]
pub struct Workspace {
    saved: Vec<Activations>,
    /// The input of each layer, if activations are recomputed.
    inputs: Vec<Vec<f32>>,
    scratch: Scratch,
    /// The input of the next layer, and after the forward pass the output of the last layer.
    x: Vec<f32>,
    next: Vec<f32>,
    /// The output of the last norm for each needed row of the latest micro-batch `[M, C]`.
    pub(crate) normed: Vec<f32>,
    inv: Vec<f32>,
    logits: Vec<f32>,
    dx: Vec<f32>,
    dnext: Vec<f32>,
    /// Receives the gradient of the last norm if it is frozen; nothing reads it.
    discarded: Vec<f32>,
    /// The score of each needed row of the latest micro-batch `[M]`.
    pub scores: Vec<Score>,
}

impl Model {
    /// Creates a model with these parameters.
    ///
    /// # Errors
    /// [`ModelConfig::check`] refuses the configuration.
    pub fn new(config: ModelConfig, params: Params) -> Result<Self> {
        config.check()?;
        let positions = config.max_position_embeddings.min(MAX_TOKENS);
        let rope = RopeTable::new(config.head_dim, config.rope_theta, positions, |f| scaled_frequency(config.rope_scaling.as_ref(), f));
        Ok(Self { config, params, adapter: None, precision: Precision::default(), recompute: false, rope })
    }

    /// Returns the maximum length of a sequence.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings.min(MAX_TOKENS)
    }

    /// Converts the linear weights to a compact number format for good; from then on only an adapter beside them can be trained.
    ///
    /// # Errors
    /// A width of the model is not a multiple of the format's block size.
    pub fn freeze(&mut self, storage: Storage) -> Result<()> {
        self.params.freeze(storage)
    }

    /// Returns the values that are trained: those of the adapter if there is one, else all parameters.
    pub fn trained(&self) -> &[f32] {
        self.adapter.as_ref().map_or(&self.params.data, |adapter| &adapter.data)
    }

    /// Returns the values that are trained for writing: those of the adapter if there is one, else all parameters.
    pub fn trained_mut(&mut self) -> &mut [f32] {
        self.adapter.as_mut().map_or(&mut self.params.data, |adapter| &mut adapter.data)
    }

    /// Returns the tensors that are trained: those of the adapter if there is one, else all tensors.
    pub fn trained_tensors(&self) -> &[super::Tensor] {
        self.adapter.as_ref().map_or(&self.params.layout.tensors, |adapter| &adapter.tensors)
    }

    fn context<'a>(&'a self, packed: &'a Packed, layer: usize) -> Context<'a> {
        let last = layer + 1 == self.config.num_hidden_layers;
        Context {
            config: &self.config,
            rope: &self.rope,
            packed,
            params: &self.params.data,
            frozen: &self.params.frozen,
            ranges: &self.params.layout.layers[layer],
            adapter: self.adapter.as_ref().map(|adapter| adapter.layer(layer)),
            precision: self.precision,
            output_rows: if last { OutputRows::Needed } else { OutputRows::All },
        }
    }

    /// Returns the number of layers whose activations are saved at the same time.
    fn saved_layers(&self) -> usize {
        if self.recompute { 1 } else { self.config.num_hidden_layers }
    }

    /// Computes all layers and the last norm, whose output is written to `ws.normed` `[M, C]`.
    pub(crate) fn hidden(&self, packed: &Packed, ws: &mut Workspace) {
        self.layers(packed, ws, None);
    }

    /// Computes all layers and the last norm for the rest of a sequence, and extends `caches`, which hold the keys and values of its beginning
    /// for each layer. No backward pass can follow.
    pub(super) fn extend_caches(&self, packed: &Packed, ws: &mut Workspace, caches: &mut [KvCache]) {
        self.layers(packed, ws, Some(caches));
    }

    fn layers(&self, packed: &Packed, ws: &mut Workspace, mut caches: Option<&mut [KvCache]>) {
        let (width, layers) = (self.config.hidden_size, self.config.num_hidden_layers);
        let saved_layers = if caches.is_some() { 1 } else { self.saved_layers() };
        ws.saved.resize_with(saved_layers, Activations::default);
        ws.inputs.resize_with(if self.recompute { layers } else { 0 }, Vec::new);
        let table = &self.params.data[self.params.layout.embedding.clone()];
        embedding::gather(fit(&mut ws.x, packed.tokens.len() * width), table, &packed.tokens, width);
        for layer in 0..layers {
            let saved = &mut ws.saved[layer % saved_layers];
            std::mem::swap(&mut saved.x, &mut ws.x);
            if let Some(caches) = &mut caches {
                saved.swap(&mut caches[layer]);
            }
            layer::forward(self.context(packed, layer), saved, &mut ws.scratch, &mut ws.next);
            if let Some(caches) = &mut caches {
                saved.swap(&mut caches[layer]);
            } else if self.recompute {
                std::mem::swap(&mut saved.x, &mut ws.inputs[layer]);
            }
            std::mem::swap(&mut ws.x, &mut ws.next);
        }
        let rows = packed.rows.len();
        let (normed, inv) = (fit(&mut ws.normed, rows * width), fit(&mut ws.inv, rows));
        let weight = &self.params.data[self.params.layout.final_norm.clone()];
        norm::forward(normed, inv, &ws.x[..rows * width], weight, self.config.rms_norm_eps as f32);
    }

    fn head<'a>(&'a self, packed: &'a Packed, normed: &'a [f32]) -> head::Inputs<'a> {
        let width = self.config.hidden_size;
        let table = &self.params.data[self.params.layout.head.clone()];
        head::Inputs {
            x: &normed[..packed.rows.len() * width],
            table,
            targets: &packed.targets,
            processors: &packed.processors,
            width,
            precision: self.precision,
        }
    }

    /// Scores every needed row and writes the scores to `ws.scores`.
    pub fn score(&self, packed: &Packed, ws: &mut Workspace) {
        self.hidden(packed, ws);
        head::score(&mut ws.logits, self.head(packed, &ws.normed), &mut ws.scores);
    }

    /// Scores every needed row and adds the gradient of `Σ (weight * -logprob + entropy_weight * -entropy)` to `grads`, which has the length of
    /// [`Model::trained`].
    pub fn forward_backward(&self, packed: &Packed, ws: &mut Workspace, grads: &mut [f32]) {
        self.hidden(packed, ws);
        let mut sink = if self.adapter.is_some() { GradientSink::Adapter(grads) } else { GradientSink::Parameters(grads) };
        let (width, rows) = (self.config.hidden_size, packed.rows.len());
        let layout = &self.params.layout;
        let gradients = head::Gradients { dx: fit(&mut ws.dnext, rows * width), dtable: sink.parameter(&layout.head) };
        let weights = head::Weights { logprobs: &packed.weights, entropies: &packed.entropy_weights };
        head::cross_entropy(&mut ws.logits, self.head(packed, &ws.normed), weights, &mut ws.scores, gradients);
        let dx = fit(&mut ws.dx, rows * width);
        dx.fill(0.0);
        let weight = &self.params.data[layout.final_norm.clone()];
        let dnorm = sink.parameter_or_scratch(&layout.final_norm, &mut ws.discarded);
        norm::backward(dx, dnorm, &ws.dnext[..rows * width], &ws.x[..rows * width], &ws.inv[..rows], weight);
        let layers = self.config.num_hidden_layers;
        for layer in (0..layers).rev() {
            let context = self.context(packed, layer);
            let saved = &mut ws.saved[layer % self.saved_layers()];
            if self.recompute {
                std::mem::swap(&mut saved.x, &mut ws.inputs[layer]);
                if layer + 1 < layers {
                    layer::forward(context, saved, &mut ws.scratch, &mut ws.next);
                }
            }
            layer::backward(context, saved, &mut ws.scratch, &mut sink, (&mut ws.dx, &mut ws.dnext));
            if self.recompute {
                std::mem::swap(&mut saved.x, &mut ws.inputs[layer]);
            }
            std::mem::swap(&mut ws.dx, &mut ws.dnext);
        }
        if let Some(dtable) = sink.parameter(&layout.embedding) {
            embedding::scatter_add(dtable, &ws.dx[..packed.tokens.len() * width], &packed.tokens, width);
        }
    }
}

/// Scales a rotary frequency as the configuration says (Llama 3.1: Grattafiori et al. 2024, section 3.4.2).
fn scaled_frequency(scaling: Option<&RopeScaling>, frequency: f64) -> f64 {
    let Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) = scaling else {
        return frequency;
    };
    let turns = *original_max_position_embeddings as f64 * frequency / (2.0 * std::f64::consts::PI);
    let high = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
    frequency * (high + (1.0 - high) / factor)
}
