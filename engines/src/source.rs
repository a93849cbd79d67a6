//! Finds out where a model comes from. This is checked before mistralrs looks, because mistralrs mistakes any path that does not exist for
//! a hub id.

use std::path::{Path, PathBuf};

use milepost_runtime::Result;
use serde_json::Value;

use crate::config::LocalModelConfig;
use crate::{failed, hub};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of safetensors.
    Directory(PathBuf),
    /// One GGUF file, which carries its tokenizer and template.
    Gguf(PathBuf),
    /// A model on the Hugging Face hub: its id (`org/name`), and the directory of its files in the hub's cache.
    Hub { id: String, snapshot: PathBuf },
}

impl Source {
    /// Finds the model that the configuration names. The files of a hub id are downloaded if they are not in the hub's cache.
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
        } else if let Some(id) = hub_id(config) {
            let snapshot = hub::snapshot(id)?;
            check_no_adapter(&snapshot)?;
            Self::Hub { id: id.to_owned(), snapshot }
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

    /// Lists the files of the weights in a fixed order, and the configuration that shapes them.
    pub(crate) fn weight_files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Directory(dir) | Self::Hub { snapshot: dir, .. } => {
                let mut files = safetensors(dir)?;
                files.push(dir.join("config.json"));
                Ok(files)
            }
            Self::Gguf(file) => Ok(vec![file.clone()]),
        }
    }

    /// Reads `vocab_size` from a directory's config.json; `None` for other sources.
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

/// Returns the configured model if it is a hub id; an existing path is not a hub id.
pub(crate) fn hub_id(config: &LocalModelConfig) -> Option<&str> {
    Some(config.model.as_str()).filter(|name| !Path::new(name).exists() && is_hub_id(name))
}

/// Returns whether a name is a hub id: `org/name` in the characters of the hub. A mistyped path usually has more or fewer parts.
pub fn is_hub_id(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    // A path under a directory that exists here (or usually does: `models/`) is a wrong path and not a hub id.
    name.split_once('/').is_some_and(|(org, model)| part(org) && part(model) && org != "models" && !Path::new(org).exists())
}

/// Checks that a directory holds what a model needs.
fn check_directory(dir: &Path) -> Result<()> {
    let shown = dir.display();
    for name in ["config.json", "tokenizer.json"] {
        if !dir.join(name).is_file() {
            return Err(failed(format!("model: {shown}/{name} is missing; copy it from where the weights were published")));
        }
    }
    check_no_adapter(dir)?;
    if safetensors(dir)?.is_empty() {
        return Err(failed(format!("model: {shown} has no model.safetensors (or model-00001-of-….safetensors); copy the weights there")));
    }
    Ok(())
}

/// Checks that there is no adapter beside the weights: mistralrs loads any file whose name contains `model.safetensors`.
fn check_no_adapter(dir: &Path) -> Result<()> {
    if dir.join("adapter_model.safetensors").exists() {
        return Err(failed(format!(
            "model: {} holds adapter_model.safetensors beside the weights, which would be loaded as weights; move the adapter to a directory of its own",
            dir.display()
        )));
    }
    Ok(())
}

/// Lists the safetensors files of a directory, sorted by name.
fn safetensors(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|error| failed(format!("{} cannot be read: {error}", dir.display())))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    Ok(files)
}
