//! Loads the configured model with the adapter that should be in service.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use milepost_engines::{LocalEngine, LocalModelConfig, RemoteEngine, RemoteModelConfig, base_hash, hub_name_hash, is_hub_id};
use milepost_planners::{LoadedModel, Prompts};
use milepost_runtime::registry::ChosenAdapter;
use milepost_runtime::{Engine, Generation, GenerationEngine};

use crate::config::{Config, EngineKind};
use crate::wiring;

/// Checks that the configured model directory exists, so that nothing else is started without it.
///
/// # Errors
/// The directory does not exist.
pub fn check(config: &Config) -> Result<()> {
    let (key, hub) = match config.engine {
        EngineKind::Local => ("local.model", is_hub_id(&config.local.model)),
        EngineKind::Remote => ("remote.base", false),
    };
    match config.base() {
        Some(model) if !hub && !model.exists() => bail!(
            "the model directory {} does not exist; set `{key}` to a directory of safetensors, or train one with `milepost learn sft`",
            model.display()
        ),
        _ => Ok(()),
    }
}

/// Returns the generation of the configured engine's base model, without loading it.
///
/// # Errors
/// The model is missing or incomplete.
pub fn base_generation(config: &Config) -> Result<Generation> {
    Ok(match config.engine {
        EngineKind::Local => Generation { base: base_hash(&config.local)?, ..Generation::default() },
        EngineKind::Remote => RemoteEngine::new(&config.remote)?.generation(),
    })
}

/// Returns the base generation under which the registry records the generation that serves on the configured model.
///
/// # Errors
/// The model is missing or incomplete, or the registry is damaged.
pub fn recorded_base(config: &Config) -> Result<Generation> {
    Ok(wiring::registry(config).recorded_base(base_generation(config)?, former_base(config).as_deref())?)
}

/// Returns the base hash that earlier versions recorded for the configured model: the hash of its hub id instead of its weights. Returns
/// `None` if the model is not given as a hub id.
fn former_base(config: &Config) -> Option<String> {
    hub_name_hash(&config.local).filter(|_| config.engine == EngineKind::Local)
}

/// Loads the configured model with the adapter that should be in service, and proves the adapter on its probes.
///
/// # Errors
/// The model is missing, is incomplete or does not fit its tokenizer; a server does not answer; or the adapter fails its proof.
pub async fn load(config: &Config) -> Result<LoadedModel> {
    let prompts = Arc::new(Prompts::new(&config.policy)?);
    let registry = wiring::registry(config);
    let chosen = ChosenAdapter::find(&registry, &config.adapter, || recorded_base(config)).await?;
    let loaded = engine(config, prompts.hash(), chosen.as_ref()).await;
    let engine = match &chosen {
        None => loaded?,
        Some(chosen) => {
            let engine = loaded.with_context(|| chosen.refusal())?;
            chosen.check(&engine.generation()).with_context(|| chosen.refusal())?;
            engine
        }
    };
    if let Some(former) = former_base(config) {
        registry.rebase(&former, &engine.generation())?;
    }
    Ok(LoadedModel::new(engine, prompts))
}

/// Starts the engine. If an adapter is chosen, it is proved on its probes before the engine is returned.
async fn engine(config: &Config, prompts: &str, chosen: Option<&ChosenAdapter>) -> milepost_runtime::Result<Arc<dyn GenerationEngine>> {
    let prompts_hash = prompts.to_owned();
    match config.engine {
        EngineKind::Local => {
            let adapter = chosen.map(|chosen| chosen.directory.clone());
            let local = LocalModelConfig { prompts_hash, adapter, ..config.local.clone() };
            let engine = LocalEngine::load(&local).await?;
            if let Some(probes) = chosen.and_then(|chosen| chosen.probes.as_ref()) {
                engine.prove(probes).await?;
            }
            Ok(Arc::new(engine))
        }
        EngineKind::Remote => {
            let engine = RemoteEngine::new(&RemoteModelConfig { prompts_hash, ..config.remote.clone() })?;
            if let Some(chosen) = chosen {
                engine.swap(&chosen.directory, &chosen.probes.clone().unwrap_or_default()).await?;
            }
            Ok(Arc::new(engine))
        }
    }
}

/// Returns the directory of the base weights, which adapters are trained on.
///
/// # Errors
/// Only a server has the weights.
pub fn weights(config: &Config) -> Result<&Path, milepost_runtime::Error> {
    let problem = "adapters are trained on weights that are here; set `remote.base` to the directory of those that the server serves, or `engine: local`";
    config.base().ok_or_else(|| milepost_runtime::Error::BadInput(problem.into()))
}
