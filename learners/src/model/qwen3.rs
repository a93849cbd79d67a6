//! Qwen3 (Yang et al. 2025), forward and backward over packed sequences.

use super::layer::{self, Context, Kept, Scratch};
use super::{ModelConfig, Packed, Params};
use crate::Result;
use crate::ops::head::{self, Score};
use crate::ops::matmul::Precision;
use crate::ops::rope::RopeTable;
use crate::ops::{embedding, fit, norm};

/// Which rows of a layer's output somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// All of them: another layer follows.
    AllRows,
    /// Those whose next token is needed: this is the last layer, which then asks and thinks only there.
    NeededRows,
}

/// A Qwen3 model: configuration, parameters, and the table of positions.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub params: Params,
    /// The numbers that products are computed in.
    pub precision: Precision,
    rope: RopeTable,
}

/// One worker's memory: it grows to the largest micro-batch and stays.
#[derive(Default)]
pub struct Workspace {
    kept: Vec<Kept>,
    scratch: Scratch,
    last: Vec<f32>,
    normed: Vec<f32>,
    inv: Vec<f32>,
    logits: Vec<f32>,
    dx: Vec<f32>,
    dnext: Vec<f32>,
    /// The score of each needed row of the latest micro-batch `[M]`.
    pub scores: Vec<Score>,
}

impl Model {
    /// A model of given parameters.
    pub fn new(config: ModelConfig, params: Params) -> Result<Self> {
        config.check()?;
        let rope = RopeTable::new(config.head_dim, config.rope_theta, config.max_position_embeddings);
        Ok(Self { config, params, precision: Precision::default(), rope })
    }

    fn context<'a>(&'a self, packed: &'a Packed, layer: usize) -> Context<'a> {
        let last = layer + 1 == self.config.num_hidden_layers;
        Context {
            config: &self.config,
            rope: &self.rope,
            packed,
            params: &self.params.data,
            at: &self.params.layout.layers[layer],
            precision: self.precision,
            demand: if last { Demand::NeededRows } else { Demand::AllRows },
        }
    }

    /// Runs all layers and the last norm, up to `workspace.normed` `[M, C]`.
    fn hidden(&self, packed: &Packed, ws: &mut Workspace) {
        let (width, layers) = (self.config.hidden_size, self.config.num_hidden_layers);
        ws.kept.resize_with(layers, Kept::default);
        let table = &self.params.data[self.params.layout.embedding.clone()];
        let x = fit(&mut ws.kept[0].x, packed.tokens.len() * width);
        embedding::gather(x, table, &packed.tokens, width);
        for layer in 0..layers {
            let (now, later) = ws.kept.split_at_mut(layer + 1);
            let out = later.first_mut().map_or(&mut ws.last, |next| &mut next.x);
            layer::forward(self.context(packed, layer), &mut now[layer], &mut ws.scratch, out);
        }
        let rows = packed.rows.len();
        let (normed, inv) = (fit(&mut ws.normed, rows * width), fit(&mut ws.inv, rows));
        let weight = &self.params.data[self.params.layout.final_norm.clone()];
        norm::forward(normed, inv, &ws.last[..rows * width], weight, self.config.rms_norm_eps as f32);
    }

    fn head<'a>(&'a self, packed: &'a Packed, normed: &'a [f32]) -> head::Inputs<'a> {
        let width = self.config.hidden_size;
        let table = &self.params.data[self.params.layout.embedding.clone()];
        head::Inputs { x: &normed[..packed.rows.len() * width], table, targets: &packed.targets, width, precision: self.precision }
    }

    /// Scores every needed row into `workspace.scores`.
    pub fn score(&self, packed: &Packed, ws: &mut Workspace) {
        self.hidden(packed, ws);
        head::score(&mut ws.logits, self.head(packed, &ws.normed), &mut ws.scores);
    }

    /// Scores every needed row and adds the gradient of `Σ weight * -logprob` to `grads`, which has the parameters' layout.
    pub fn forward_backward(&self, packed: &Packed, ws: &mut Workspace, grads: &mut [f32]) {
        self.hidden(packed, ws);
        let (width, rows) = (self.config.hidden_size, packed.rows.len());
        let layout = &self.params.layout;
        let gradients = head::Gradients { dx: fit(&mut ws.dnext, rows * width), dtable: &mut grads[layout.embedding.clone()] };
        head::cross_entropy(&mut ws.logits, self.head(packed, &ws.normed), &packed.weights, &mut ws.scores, gradients);
        let dx = fit(&mut ws.dx, rows * width);
        dx.fill(0.0);
        let weight = &self.params.data[layout.final_norm.clone()];
        let dnorm = &mut grads[layout.final_norm.clone()];
        norm::backward(dx, dnorm, &ws.dnext[..rows * width], &ws.last[..rows * width], &ws.inv[..rows], weight);
        for layer in (0..self.config.num_hidden_layers).rev() {
            let context = self.context(packed, layer);
            layer::backward(context, &mut ws.kept[layer], &mut ws.scratch, grads, (&mut ws.dx, &mut ws.dnext));
            std::mem::swap(&mut ws.dx, &mut ws.dnext);
        }
        let dx = &ws.dx[..packed.tokens.len() * width];
        embedding::scatter_add(&mut grads[layout.embedding.clone()], dx, &packed.tokens, width);
    }
}
