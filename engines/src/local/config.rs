//! Section `model` of the configuration, for a model on this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Number type of the weights in memory.
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

/// Quantisation while loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isq {
    /// About 4.5 bits a weight; widths must be multiples of 256.
    #[serde(rename = "q4k")]
    Q4K,
    /// 8.5 bits a weight; widths must be multiples of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl Isq {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4K => "q4k",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// What computes a model on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// mistralrs: every format and device, one request at a time on a CPU.
    #[default]
    Mistralrs,
    /// The trainer's kernels: safetensors of Qwen3, Qwen2 and Llama in F32 on a CPU, a request on each core.
    Native,
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalModelConfig {
    /// A directory of safetensors, a `.gguf` file, or a hub id (`org/name`).
    pub model: String,
    /// What computes it.
    pub backend: Backend,
    /// Number type of the weights in memory.
    pub dtype: WeightType,
    /// Quantise while loading.
    pub isq: Option<Isq>,
    /// Directory of a LoRA adapter (PEFT names) to merge into the weights; set by the program, which knows what serves.
    #[serde(skip)]
    pub adapter: Option<PathBuf>,
    /// Use at most so many tokens of context, prompt and answer together; the model's own limit otherwise.
    pub max_seq: Option<usize>,
    /// Requests in flight on an accelerator; a CPU always takes one at a time.
    pub concurrency: usize,
    /// Hash of the prompt templates, part of the generation; set by the program.
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
