//! Low-rank adapters (LoRA, Hu et al. 2021) beside the linear layers of a frozen model.

mod difference;
mod gguf;
mod merge;
mod peft;
mod summary;

use std::ops::Range;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub use difference::{ModuleDifference, differences};
pub use gguf::export_gguf;
pub use peft::{Lineage, read_lineage};
pub use summary::AdapterSummary;

use crate::model::low_rank::{LayerAdapter, LoraModule, Projection};
use crate::model::{ModelConfig, Role, Tensor};
use crate::{Error, Result};

/// The prefix of every tensor's name in PEFT's files.
const PREFIX: &str = "base_model.model.";

/// A linear layer that can have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The projection to the queries.
    QProj,
    /// The projection to the keys.
    KProj,
    /// The projection to the values.
    VProj,
    /// The output projection of attention.
    OProj,
    /// The gate projection of the MLP.
    GateProj,
    /// The up projection of the MLP.
    UpProj,
    /// The down projection of the MLP.
    DownProj,
}

impl Target {
    /// All targets, in the order of PEFT's files.
    pub const ALL: [Self; 7] = [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// Returns the path of the module inside a layer.
    fn path(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }

    /// Returns the projection that the target is part of, its columns of that projection's output, and its number of inputs.
    fn placement(self, config: &ModelConfig) -> (Projection, Range<usize>, usize) {
        let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
        match self {
            Self::QProj => (Projection::Q, 0..q, c),
            Self::KProj => (Projection::Kv, 0..kv, c),
            Self::VProj => (Projection::Kv, kv..2 * kv, c),
            Self::OProj => (Projection::O, 0..c, q),
            Self::GateProj => (Projection::GateUp, 0..i, c),
            Self::UpProj => (Projection::GateUp, i..2 * i, c),
            Self::DownProj => (Projection::Down, 0..c, i),
        }
    }
}

/// The shape of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank of the update.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The linear layers that have an adapter.
    pub targets: Vec<Target>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, targets: Target::ALL.to_vec() }
    }
}

impl LoraConfig {
    fn check(&self) -> Result<()> {
        let refuse = |key, problem: &str| Err(Error::Config { key, problem: problem.into() });
        if self.rank == 0 || self.rank > 512 {
            return refuse("rank", "must be from 1 to 512; servers take 1, 8, 16, 32 and 64");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse("alpha", "must be above 0");
        }
        if self.targets.is_empty() {
            return refuse("targets", "must name at least one linear layer, such as q_proj");
        }
        Ok(())
    }
}

/// The initialisation of a new adapter's `B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoraInit {
    /// `B` is zero, so that the adapter does not change the model at first.
    Zero,
    /// `B` is random, so that every tensor of the adapter has a gradient; if `B` is zero, the gradient of `A` is zero.
    Random,
}

/// An adapter: its shape, the layout of its tensors, and their values.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The shape.
    pub config: LoraConfig,
    /// The tensors with PEFT's names, in the order of `data`.
    pub tensors: Vec<Tensor>,
    /// The values of all tensors in one flat slice.
    pub data: Vec<f32>,
    /// The modules of each layer.
    layers: Vec<Vec<LoraModule>>,
}

impl Adapter {
    /// Creates an adapter whose values are all zero.
    fn zeros(config: LoraConfig, model: &ModelConfig) -> Result<Self> {
        config.check()?;
        let (mut tensors, mut layers) = (Vec::<Tensor>::new(), Vec::new());
        for layer in 0..model.num_hidden_layers {
            let mut modules = Vec::new();
            for target in &config.targets {
                let (projection, outputs, inputs) = target.placement(model);
                let mut allocate = |factor: &str, shape: [usize; 2]| {
                    let start = tensors.last().map_or(0, |t| t.range.end);
                    let range = start..start + shape[0] * shape[1];
                    let name = format!("{PREFIX}model.layers.{layer}.{}.lora_{factor}.weight", target.path());
                    tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), role: Role::Matrix });
                    range
                };
                let (a, b) = (allocate("A", [config.rank, inputs]), allocate("B", [outputs.len(), config.rank]));
                modules.push(LoraModule { projection, outputs, a, b });
            }
            layers.push(modules);
        }
        let data = vec![0.0; tensors.last().map_or(0, |t| t.range.end)];
        Ok(Self { config, tensors, data, layers })
    }

    /// Creates a new adapter. `A` is drawn uniformly from `±1/√inputs`, as PEFT does; `B` is initialised as `init` says.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn fresh(config: LoraConfig, model: &ModelConfig, seed: u64, init: LoraInit) -> Result<Self> {
        let mut adapter = Self::zeros(config, model)?;
        let mut rng = StdRng::seed_from_u64(seed);
        for tensor in &adapter.tensors {
            let is_a = tensor.name.ends_with("lora_A.weight");
            let bound = 1.0 / (tensor.shape[1] as f32).sqrt();
            if is_a || init == LoraInit::Random {
                adapter.data[tensor.range.clone()].fill_with(|| rng.random_range(-bound..bound));
            }
        }
        Ok(adapter)
    }

    /// Returns the factor that the update is scaled by.
    pub fn scale(&self) -> f32 {
        self.config.alpha / self.config.rank as f32
    }

    /// Returns the modules of one layer.
    pub(crate) fn layer(&self, layer: usize) -> LayerAdapter<'_> {
        LayerAdapter { modules: &self.layers[layer], data: &self.data, rank: self.config.rank, scale: self.scale() }
    }
}
