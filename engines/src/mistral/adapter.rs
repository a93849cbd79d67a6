//! Reads LoRA adapters from files, and refuses settings that mistralrs would silently ignore.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use milepost_runtime::Result;
use milepost_runtime::hash::ADAPTER_FILES;
use serde_json::Value;

use crate::failed;

/// An adapter in memory, ready to be merged while the base loads.
pub(super) struct Adapter {
    /// Rank, alpha and target modules.
    pub(super) config: mistralrs_quant::LoraConfig,
    /// The tensors by their PEFT names, F32.
    pub(super) tensors: HashMap<String, Tensor>,
}

impl Adapter {
    /// Reads an adapter from `adapter_config.json` and `adapter_model.safetensors`.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let [config_path, weights_path] = ADAPTER_FILES.map(|name| dir.join(name));
        for path in [&config_path, &weights_path] {
            if !path.is_file() {
                return Err(failed(format!(
                    "adapter: {} is missing; give a directory that `learn` wrote, or a PEFT adapter",
                    path.display()
                )));
            }
        }
        let config = read_config(&config_path)?;
        let tensors = read_tensors(&weights_path)?;
        if let Some(name) = tensors.keys().find(|name| !config.target_modules.iter().any(|target| name.contains(target.as_str()))) {
            return Err(failed(format!(
                "adapter: {} holds {name}, which no target module of {} names",
                weights_path.display(),
                config_path.display()
            )));
        }
        Ok(Self { config, tensors })
    }
}

fn read_config(path: &PathBuf) -> Result<mistralrs_quant::LoraConfig> {
    let wrong = |reason: String| failed(format!("adapter: {}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let config: Value = serde_json::from_slice(&text).map_err(|error| wrong(format!("no JSON: {error}")))?;
    // mistralrs merges only `B·A·alpha/r`.
    for key in ["use_rslora", "use_dora"] {
        if config[key] == true {
            return Err(wrong(format!("{key} is not supported by the engine; train with {key}: false")));
        }
    }
    for key in ["rank_pattern", "alpha_pattern", "modules_to_save"] {
        let empty = match &config[key] {
            Value::Null => true,
            Value::Object(entries) => entries.is_empty(),
            Value::Array(entries) => entries.is_empty(),
            _ => false,
        };
        if !empty {
            return Err(wrong(format!("{key} is not supported by the engine; train without it")));
        }
    }
    if config["bias"].as_str().is_some_and(|bias| bias != "none") {
        return Err(wrong("a trained bias is not supported by the engine; train with bias: none".into()));
    }
    let targets = config["target_modules"].as_array().ok_or_else(|| wrong("target_modules must be a list of module names".into()))?;
    let target_modules: HashSet<String> = targets.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let rank = config["r"].as_u64().filter(|rank| *rank > 0).ok_or_else(|| wrong("r must be a positive number".into()))?;
    let alpha = config["lora_alpha"].as_f64().ok_or_else(|| wrong("lora_alpha must be a number".into()))?;
    Ok(mistralrs_quant::LoraConfig { rank: rank as usize, alpha, target_modules })
}

fn read_tensors(path: &PathBuf) -> Result<HashMap<String, Tensor>> {
    let wrong = |error: candle_core::Error| failed(format!("adapter: {}: {error}", path.display()));
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(wrong)?;
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32).map_err(wrong)?))).collect()
}
