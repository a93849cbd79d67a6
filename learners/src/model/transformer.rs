//! The transformer of Qwen3, Qwen2 and Llama, forward and backward over packed sequences.

use super::config::RopeScaling;
use super::layer::{self, Cache, Context, Kept, Scratch};
use super::linear::Sink;
use super::{ModelConfig, Packed, Params, Storage};
use crate::Result;
use crate::adapter::Adapter;
use crate::ops::head::{self, Score};
use crate::ops::matmul::Precision;
use crate::ops::rope::RopeTable;
use crate::ops::{embedding, fit, norm};

/// The longest sequence that can be trained on, whatever the model could take.
pub const MAX_TOKENS: usize = 16_384;

/// Which rows of a layer's output somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// All of them: another layer follows.
    AllRows,
    /// Those whose next token is needed: this is the last layer, which then asks and thinks only there.
    NeededRows,
}

/// A model: configuration, parameters, an adapter if one is trained, and the table of positions.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub params: Params,
    /// The adapter beside them; with one the parameters are frozen.
    pub adapter: Option<Adapter>,
    /// The numbers that products are computed in.
    pub precision: Precision,
    /// Keep only each layer's input and compute the rest again on the way back (Chen et al. 2016).
    pub recompute: bool,
    pub(crate) rope: RopeTable,
}

/// One worker's memory: it grows to the largest micro-batch and stays.
#[derive(Default)]
pub struct Workspace {
    kept: Vec<Kept>,
    /// With recomputation: the input of each layer.
    inputs: Vec<Vec<f32>>,
    scratch: Scratch,
    /// The input of the next layer; in the end the output of the last.
    x: Vec<f32>,
    next: Vec<f32>,
    /// The last norm's output for each needed row of the latest micro-batch `[M, C]`.
    pub(crate) normed: Vec<f32>,
    inv: Vec<f32>,
    logits: Vec<f32>,
    dx: Vec<f32>,
    dnext: Vec<f32>,
    spare: Vec<f32>,
    /// The score of each needed row of the latest micro-batch `[M]`.
    pub scores: Vec<Score>,
}

impl Model {
    /// A model of given parameters.
    pub fn new(config: ModelConfig, params: Params) -> Result<Self> {
        config.check()?;
        let positions = config.max_position_embeddings.min(MAX_TOKENS);
        let rope = RopeTable::new(config.head_dim, config.rope_theta, positions, |f| stretched(config.rope_scaling.as_ref(), f));
        Ok(Self { config, params, adapter: None, precision: Precision::default(), recompute: false, rope })
    }

    /// The longest sequence that it can be trained on.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings.min(MAX_TOKENS)
    }

    /// Keeps the linear weights in a smaller type from now on: only an adapter beside them can be trained then.
    pub fn freeze(&mut self, storage: Storage) -> Result<()> {
        self.params.freeze(storage)
    }

    /// What is trained: the adapter if there is one, else all parameters.
    pub fn trained(&self) -> &[f32] {
        self.adapter.as_ref().map_or(&self.params.data, |adapter| &adapter.data)
    }

    /// The same, to be moved.
    pub fn trained_mut(&mut self) -> &mut [f32] {
        self.adapter.as_mut().map_or(&mut self.params.data, |adapter| &mut adapter.data)
    }

    /// The tensors that are trained.
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
            at: &self.params.layout.layers[layer],
            low: self.adapter.as_ref().map(|adapter| adapter.layer(layer)),
            precision: self.precision,
            demand: if last { Demand::NeededRows } else { Demand::AllRows },
        }
    }

    /// Layers whose inner values are kept at once.
    fn slots(&self) -> usize {
        if self.recompute { 1 } else { self.config.num_hidden_layers }
    }

    /// Runs all layers and the last norm, up to `workspace.normed` `[M, C]`.
    pub(crate) fn hidden(&self, packed: &Packed, ws: &mut Workspace) {
        self.layers(packed, ws, None);
    }

    /// The same for the rest of a sequence, after the keys and values of its beginning, a cache for each layer; there is no way back.
    pub(super) fn read_on(&self, packed: &Packed, ws: &mut Workspace, caches: &mut [Cache]) {
        self.layers(packed, ws, Some(caches));
    }

    fn layers(&self, packed: &Packed, ws: &mut Workspace, mut caches: Option<&mut [Cache]>) {
        let (width, layers) = (self.config.hidden_size, self.config.num_hidden_layers);
        let slots = if caches.is_some() { 1 } else { self.slots() };
        ws.kept.resize_with(slots, Kept::default);
        ws.inputs.resize_with(if self.recompute { layers } else { 0 }, Vec::new);
        let table = &self.params.data[self.params.layout.embedding.clone()];
        embedding::gather(fit(&mut ws.x, packed.tokens.len() * width), table, &packed.tokens, width);
        for layer in 0..layers {
            let kept = &mut ws.kept[layer % slots];
            std::mem::swap(&mut kept.x, &mut ws.x);
            if let Some(caches) = &mut caches {
                kept.swap(&mut caches[layer]);
            }
            layer::forward(self.context(packed, layer), kept, &mut ws.scratch, &mut ws.next);
            if let Some(caches) = &mut caches {
                kept.swap(&mut caches[layer]);
            } else if self.recompute {
                std::mem::swap(&mut kept.x, &mut ws.inputs[layer]);
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
            lenses: &packed.lenses,
            width,
            precision: self.precision,
        }
    }

    /// Scores every needed row into `workspace.scores`.
    pub fn score(&self, packed: &Packed, ws: &mut Workspace) {
        self.hidden(packed, ws);
        head::score(&mut ws.logits, self.head(packed, &ws.normed), &mut ws.scores);
    }

    /// Scores every needed row and adds the gradient of `Σ (weight * -logprob + entropy_weight * -entropy)` to `grads`, as long as what is trained.
    pub fn forward_backward(&self, packed: &Packed, ws: &mut Workspace, grads: &mut [f32]) {
        self.hidden(packed, ws);
        let mut sink = if self.adapter.is_some() { Sink::Adapter(grads) } else { Sink::Parameters(grads) };
        let (width, rows) = (self.config.hidden_size, packed.rows.len());
        let layout = &self.params.layout;
        let gradients = head::Gradients { dx: fit(&mut ws.dnext, rows * width), dtable: sink.parameter(&layout.head) };
        let weights = head::Weights { logprobs: &packed.weights, entropies: &packed.entropy_weights };
        head::cross_entropy(&mut ws.logits, self.head(packed, &ws.normed), weights, &mut ws.scores, gradients);
        let dx = fit(&mut ws.dx, rows * width);
        dx.fill(0.0);
        let weight = &self.params.data[layout.final_norm.clone()];
        let dnorm = sink.or_spare(&layout.final_norm, &mut ws.spare);
        norm::backward(dx, dnorm, &ws.dnext[..rows * width], &ws.x[..rows * width], &ws.inv[..rows], weight);
        let layers = self.config.num_hidden_layers;
        for layer in (0..layers).rev() {
            let context = self.context(packed, layer);
            let kept = &mut ws.kept[layer % self.slots()];
            if self.recompute {
                std::mem::swap(&mut kept.x, &mut ws.inputs[layer]);
                if layer + 1 < layers {
                    layer::forward(context, kept, &mut ws.scratch, &mut ws.next);
                }
            }
            layer::backward(context, kept, &mut ws.scratch, &mut sink, (&mut ws.dx, &mut ws.dnext));
            if self.recompute {
                std::mem::swap(&mut kept.x, &mut ws.inputs[layer]);
            }
            std::mem::swap(&mut ws.dx, &mut ws.dnext);
        }
        if let Some(dtable) = sink.parameter(&layout.embedding) {
            embedding::scatter_add(dtable, &ws.dx[..packed.tokens.len() * width], &packed.tokens, width);
        }
    }
}

/// A rotary frequency as the configuration stretches it (Llama 3.1: Grattafiori et al. 2024, section 3.4.2).
fn stretched(scaling: Option<&RopeScaling>, frequency: f64) -> f64 {
    let Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) = scaling else {
        return frequency;
    };
    let turns = *original_max_position_embeddings as f64 * frequency / (2.0 * std::f64::consts::PI);
    let high = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
    frequency * (high + (1.0 - high) / factor)
}
