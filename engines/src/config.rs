//! Section `local` of the configuration: a model on this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The number type of the weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// F32 on a CPU (F16 loses small updates, BF16 does not run), BF16 on an accelerator.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits with the range of F32; accelerators only.
    Bf16,
}

/// Quantisation of the weights while they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isq {
    /// About 4.5 bits per weight; widths must be multiples of 256.
    #[serde(rename = "q4k")]
    Q4K,
    /// 8.5 bits per weight; widths must be multiples of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl Isq {
    /// Returns its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4K => "q4k",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// The backend that computes a model on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `native` if it can compute the model, `mistralrs` otherwise.
    #[default]
    Auto,
    /// mistralrs, in a build with the feature `mistralrs`: every format and device, one request at a time on a CPU.
    Mistralrs,
    /// The trainer's kernels: safetensors of Qwen3, Qwen2 and Llama in F32 on a CPU, one request per core.
    Native,
}

impl Backend {
    /// Returns its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mistralrs => "mistralrs",
            Self::Native => "native",
        }
    }
}

/// The settings of a model on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalModelConfig {
    /// A directory of safetensors, a `.gguf` file, or a hub id (`org/name`).
    pub model: String,
    /// The backend that computes the model.
    pub backend: Backend,
    /// The number type of the weights in memory.
    pub dtype: WeightType,
    /// The quantisation of the weights while they are loaded; `None` loads them as they are.
    pub isq: Option<Isq>,
    /// The directory of a LoRA adapter (PEFT names) to merge into the weights; set by the program, which knows the generation in service.
    #[serde(skip)]
    pub adapter: Option<PathBuf>,
    /// The maximum number of tokens of prompt and completion together; `None` takes the model's own limit.
    pub max_seq: Option<usize>,
    /// The maximum number of requests in flight on an accelerator; with mistralrs a CPU takes one at a time.
    pub concurrency: usize,
    /// The hash of the prompt templates, which is part of the generation; set by the program.
    #[serde(skip)]
    pub prompts_hash: String,
}

impl Default for LocalModelConfig {
    fn default() -> Self {
        Self {
            model: "models/seed".into(),
            backend: Backend::default(),
            dtype: WeightType::Auto,
            isq: None,
            adapter: None,
            max_seq: None,
            concurrency: 1,
            prompts_hash: String::new(),
        }
    }
}
