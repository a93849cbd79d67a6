//! Where a model comes from, checked before mistralrs looks: it takes any path that does not exist for a hub id.

use std::path::{Path, PathBuf};

use milepost_runtime::Result;
use milepost_runtime::hash::hash_files;
use milepost_text::hash16;
use serde_json::Value;

use super::config::{LocalModelConfig, WeightType};
use crate::failed;

/// A model's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of safetensors.
    Directory(PathBuf),
    /// One GGUF file, which carries its tokenizer and template.
    Gguf(PathBuf),
    /// `org/name` on the Hugging Face hub.
    Hub(String),
}

impl Source {
    /// Finds the model that the configuration names.
    pub(crate) fn find(config: &LocalModelConfig) -> Result<Self> {
        let (name, path) = (config.model.as_str(), PathBuf::from(&config.model));
        let source = if path.is_dir() {
            check_directory(&path)?;
            Self::Directory(path)
        } else if path.is_file() {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("gguf") => Self::Gguf(path),
                _ => return Err(failed(format!("model: {name} is a file but not .gguf; give the directory that holds the safetensors"))),
            }
        } else if is_hub_id(name) {
            Self::Hub(name.to_owned())
        } else {
            return Err(failed(format!(
                "model: {name} does not exist; give a directory with config.json, tokenizer.json and *.safetensors, a .gguf file, or a hub id such as Qwen/Qwen3-0.6B"
            )));
        };
        if matches!(source, Self::Gguf(_)) && config.isq.is_some() {
            return Err(failed(format!("isq: {name} is quantised already; remove `isq` or give the safetensors it was made from")));
        }
        Ok(source)
    }

    /// Files whose bytes are the weights, in a fixed order, with the configuration that shapes them.
    pub(crate) fn weight_files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Directory(dir) => {
                let mut files = safetensors(dir)?;
                files.push(dir.join("config.json"));
                Ok(files)
            }
            Self::Gguf(file) => Ok(vec![file.clone()]),
            Self::Hub(_) => Ok(Vec::new()),
        }
    }

    /// `vocab_size` of a directory's config.json.
    pub(crate) fn vocab_size(&self) -> Result<Option<usize>> {
        let Self::Directory(dir) = self else { return Ok(None) };
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(|error| failed(format!("{} cannot be read: {error}", path.display())))?;
        let config: Value = serde_json::from_slice(&text).map_err(|error| failed(format!("{} is no JSON: {error}", path.display())))?;
        let size = config["vocab_size"].as_u64().or_else(|| config["text_config"]["vocab_size"].as_u64());
        size.map(|size| Some(size as usize))
            .ok_or_else(|| failed(format!("{} has no vocab_size; it is not a text model's", path.display())))
    }
}

/// Hash of the weights of the model that a configuration names, as [`Generation::base`] holds it; nothing is loaded.
///
/// # Errors
/// A model that is missing or incomplete.
pub fn base_hash(config: &LocalModelConfig) -> Result<String> {
    hash_base(&Source::find(config)?, config)
}

/// Hash of the weights, with the quantisation and number type they are served in: both change the answers.
pub(crate) fn hash_base(source: &Source, config: &LocalModelConfig) -> Result<String> {
    let mut hash = match source {
        Source::Hub(id) => hash16(id.as_bytes()),
        _ => hash_files(&source.weight_files()?)?,
    };
    if let Some(isq) = config.isq {
        hash = format!("{hash}-{}", isq.name());
    }
    if config.dtype == WeightType::Bf16 {
        hash.push_str("-bf16");
    }
    Ok(hash)
}

/// `org/name` with the hub's characters; a path that was mistyped usually has more or fewer parts.
pub fn is_hub_id(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    // A path under a directory that is here (or usually is: `models/`) is a wrong path, not a name on the hub.
    name.split_once('/').is_some_and(|(org, model)| part(org) && part(model) && org != "models" && !Path::new(org).exists())
}

fn check_directory(dir: &Path) -> Result<()> {
    let shown = dir.display();
    for name in ["config.json", "tokenizer.json"] {
        if !dir.join(name).is_file() {
            return Err(failed(format!("model: {shown}/{name} is missing; copy it from where the weights were published")));
        }
    }
    // mistralrs searches for `model.safetensors` anywhere in a file's name.
    if dir.join("adapter_model.safetensors").exists() {
        return Err(failed(format!(
            "model: {shown} holds adapter_model.safetensors beside the weights, which would be loaded as weights; move the adapter to a directory of its own"
        )));
    }
    if safetensors(dir)?.is_empty() {
        return Err(failed(format!("model: {shown} has no model.safetensors (or model-00001-of-….safetensors); copy the weights there")));
    }
    Ok(())
}

fn safetensors(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|error| failed(format!("{} cannot be read: {error}", dir.display())))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    Ok(files)
}
