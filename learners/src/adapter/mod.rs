//! Low-rank adapters (Hu et al. 2021) on the linear layers of a frozen model.

mod difference;
mod gguf;
mod merge;
mod peft;

use std::ops::Range;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub use difference::{ModuleDifference, differences};
pub use gguf::export_gguf;
pub use peft::{Lineage, read_lineage};

use crate::model::linear::{Low, Place, Site};
use crate::model::{ModelConfig, Role, Tensor};
use crate::{Error, Result};

/// Prefix of every tensor in PEFT's files.
const PREFIX: &str = "base_model.model.";

/// A linear layer that can carry an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The MLP's gate.
    GateProj,
    /// Up into the MLP.
    UpProj,
    /// Down from the MLP.
    DownProj,
}

impl Target {
    /// All of them, in the order of PEFT's files.
    pub const ALL: [Self; 7] = [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// The module's path inside a layer.
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

    /// Where it adds to, and from how many inputs.
    fn spot(self, config: &ModelConfig) -> (Site, Range<usize>, usize) {
        let (c, i, d) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
        match self {
            Self::QProj => (Site::Q, 0..q, c),
            Self::KProj => (Site::Kv, 0..kv, c),
            Self::VProj => (Site::Kv, kv..2 * kv, c),
            Self::OProj => (Site::O, 0..c, q),
            Self::GateProj => (Site::GateUp, 0..i, c),
            Self::UpProj => (Site::GateUp, i..2 * i, c),
            Self::DownProj => (Site::Down, 0..c, i),
        }
    }
}

/// The shape of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the update.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The linear layers that carry one.
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

/// How a fresh adapter's `B` is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// `B` is zero: the model is unchanged at first.
    Zero,
    /// `B` is random, so that every gradient can be seen to be finite and not zero.
    Random,
}

/// An adapter: its shape, the places of its tensors, and their numbers.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its shape.
    pub config: LoraConfig,
    /// Its tensors, with PEFT's names, in the order of `data`.
    pub tensors: Vec<Tensor>,
    /// All factors.
    pub data: Vec<f32>,
    layers: Vec<Vec<Place>>,
}

impl Adapter {
    /// An adapter of zeros.
    fn zeros(config: LoraConfig, model: &ModelConfig) -> Result<Self> {
        config.check()?;
        let (mut tensors, mut layers) = (Vec::<Tensor>::new(), Vec::new());
        for layer in 0..model.num_hidden_layers {
            let mut places = Vec::new();
            for target in &config.targets {
                let (site, outputs, inputs) = target.spot(model);
                let mut put = |factor: &str, shape: [usize; 2]| {
                    let start = tensors.last().map_or(0, |t| t.range.end);
                    let range = start..start + shape[0] * shape[1];
                    let name = format!("{PREFIX}model.layers.{layer}.{}.lora_{factor}.weight", target.path());
                    tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), role: Role::Matrix });
                    range
                };
                let (a, b) = (put("A", [config.rank, inputs]), put("B", [outputs.len(), config.rank]));
                places.push(Place { site, outputs, a, b });
            }
            layers.push(places);
        }
        let data = vec![0.0; tensors.last().map_or(0, |t| t.range.end)];
        Ok(Self { config, tensors, data, layers })
    }

    /// A fresh adapter: `A` uniform in `±1/√inputs` as PEFT draws it, `B` as asked.
    pub fn fresh(config: LoraConfig, model: &ModelConfig, seed: u64, fresh: Fresh) -> Result<Self> {
        let mut adapter = Self::zeros(config, model)?;
        let mut rng = StdRng::seed_from_u64(seed);
        for tensor in &adapter.tensors {
            let is_a = tensor.name.ends_with("lora_A.weight");
            let bound = 1.0 / (tensor.shape[1] as f32).sqrt();
            if is_a || fresh == Fresh::Random {
                adapter.data[tensor.range.clone()].fill_with(|| rng.random_range(-bound..bound));
            }
        }
        Ok(adapter)
    }

    /// What the update is scaled by.
    pub fn scale(&self) -> f32 {
        self.config.alpha / self.config.rank as f32
    }

    pub(crate) fn layer(&self, layer: usize) -> Low<'_> {
        Low { places: &self.layers[layer], data: &self.data, rank: self.config.rank, scale: self.scale() }
    }
}
