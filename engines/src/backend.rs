//! Which backend computes a model on this machine.

use std::path::Path;

use milepost_learners::ModelConfig;
use milepost_runtime::{Error, Result};

use crate::config::{Backend, Isq, LocalModelConfig, WeightType};
use crate::failed;
use crate::source::{Source, hub_id};

/// The backend that computes a model, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `Native` or `Mistralrs`, never `Auto`.
    pub backend: Backend,
    /// The reason, as half a sentence.
    pub reason: String,
}

/// Decides which backend computes the model that the configuration names, without loading it.
///
/// `auto` takes `native` for safetensors of Qwen3, Qwen2 and Llama on a CPU where neither `isq` nor `dtype: bf16` is set, and `mistralrs`
/// otherwise.
///
/// # Errors
/// The model is missing, or this build lacks the backend that computes it; the message names the command that builds one.
pub fn choose(config: &LocalModelConfig) -> Result<Choice> {
    let choice = match config.backend {
        Backend::Native => Choice { backend: Backend::Native, reason: "`local.backend` asks for it".into() },
        Backend::Mistralrs => Choice { backend: Backend::Mistralrs, reason: "`local.backend` asks for it".into() },
        Backend::Auto => match native_obstacle(config)? {
            None => Choice {
                backend: Backend::Native,
                reason: "the model is in safetensors that the native kernels compute on this CPU".into(),
            },
            Some(obstacle) => Choice { backend: Backend::Mistralrs, reason: obstacle },
        },
    };
    if choice.backend == Backend::Mistralrs && !cfg!(feature = "mistralrs") {
        return Err(no_mistralrs_because(config, &choice.reason));
    }
    Ok(choice)
}

/// Returns the reason why the native backend does not compute this model here; `None` if it does.
fn native_obstacle(config: &LocalModelConfig) -> Result<Option<String>> {
    if hub_id(config).is_some() {
        return Ok(Some("the model comes from the hub".into()));
    }
    let Source::Directory(directory) = Source::find(config)? else {
        return Ok(Some("the model is a GGUF file".into()));
    };
    Ok(settings_obstacle(config).or_else(|| architecture_obstacle(&directory)).or_else(accelerator))
}

/// Names the setting that the native backend does not support; `None` if it supports all.
pub(crate) fn settings_obstacle(config: &LocalModelConfig) -> Option<String> {
    match (config.isq, config.dtype) {
        (Some(isq), _) => Some(format!("`local.isq: {}` is set", Isq::name(isq))),
        (None, WeightType::Bf16) => Some("`local.dtype: bf16` is set".into()),
        _ => None,
    }
}

fn architecture_obstacle(directory: &Path) -> Option<String> {
    ModelConfig::load(directory).err().map(|error| format!("the native kernels do not compute it ({error})"))
}

/// Reports an accelerator, which mistralrs uses and the native kernels do not; `None` if there is none.
#[cfg(feature = "mistralrs")]
fn accelerator() -> Option<String> {
    mistralrs::best_device(false).is_ok_and(|device| !device.is_cpu()).then(|| "an accelerator is there".into())
}

#[cfg(not(feature = "mistralrs"))]
fn accelerator() -> Option<String> {
    None
}

/// Makes the error that a model needs mistralrs, which this build does not have.
#[cfg(not(feature = "mistralrs"))]
pub(crate) fn no_mistralrs(config: &LocalModelConfig) -> Error {
    no_mistralrs_because(config, "`local.backend` asks for mistralrs")
}

fn no_mistralrs_because(config: &LocalModelConfig, reason: &str) -> Error {
    failed(format!(
        "model: {} needs mistralrs ({reason}), which this build does not have; build one with `make build` or `cargo build --features mistralrs`, or give a directory of safetensors of Qwen3, Qwen2 or Llama",
        config.model
    ))
}
