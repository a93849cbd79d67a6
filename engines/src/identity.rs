//! The identity of a served model: the hashes of its weights and of its adapter.

use std::path::Path;

use milepost_runtime::hash::{adapter_hash, hash_files};
use milepost_runtime::registry::registered_base;
use milepost_runtime::{Generation, Result};
use milepost_text::hash16;

use crate::config::{LocalModelConfig, WeightType};
use crate::source::{Source, hub_id};

/// Computes the hash of the weights of the model that a configuration names, as [`Generation::base`] holds it, without loading them. The
/// weights of a hub id are downloaded first if they are not in the hub's cache.
///
/// # Errors
/// The model is missing or incomplete, or a hub id is neither in the cache nor can be downloaded.
pub fn base_hash(config: &LocalModelConfig) -> Result<String> {
    hash_base(&Source::find(config)?, config)
}

/// Returns the hash of a hub id's name, which earlier versions took for the hash of its weights; `None` if the configured model is no hub
/// id.
pub fn hub_name_hash(config: &LocalModelConfig) -> Option<String> {
    hub_id(config).map(|id| hash16(id.as_bytes()))
}

/// Returns the identity of a base with an adapter; the text side adds the hashes of tokenizer, chat template and prompts.
pub(crate) fn identity(source: &Source, config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<Generation> {
    let base = hash_base(source, config)?;
    let former = hub_name_hash(config).map(|hash| served_as(hash, config));
    let registered = adapter.map(|adapter| registered_base(adapter, &base, former.as_deref())).transpose()?.flatten();
    Ok(Generation { base, adapter: adapter.map(adapter_hash).transpose()?, parent, registered_base: registered, ..Generation::default() })
}

/// Computes the hash of the weights as they are served.
pub(crate) fn hash_base(source: &Source, config: &LocalModelConfig) -> Result<String> {
    Ok(served_as(hash_files(&source.weight_files()?)?, config))
}

/// Adds the quantisation and number type in which weights are served to their hash, because both change the answers.
fn served_as(mut hash: String, config: &LocalModelConfig) -> String {
    if let Some(isq) = config.isq {
        hash = format!("{hash}-{}", isq.name());
    }
    if config.dtype == WeightType::Bf16 {
        hash.push_str("-bf16");
    }
    hash
}
