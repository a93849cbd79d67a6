//! The host and the settings of the improvement loop, as the configuration describes them.

use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_improve::host::Host;
use milepost_improve::settings::{LoopSettings, ModelLocation};

use super::models::ProgramModels;
use super::prompts::ProgramPrompts;
use super::suite::BundledSuite;
use crate::config::{Config, EngineKind};

/// Returns the settings of the loop.
pub fn loop_settings(config: &Config) -> LoopSettings {
    LoopSettings {
        improve: config.improve.clone(),
        episodes: config.episodes.directory.clone(),
        adapter: config.adapter.clone(),
        base: config.base().map(Into::into),
        model_location: match config.engine {
            EngineKind::Local => ModelLocation::Local,
            EngineKind::Remote => ModelLocation::Server,
        },
        limits: config.limits.clone(),
    }
}

/// Creates everything that the program injects into the loop.
///
/// # Errors
/// A prompt template or tool cannot be set up, or this program's own path cannot be found.
pub fn host(config: &Config) -> Result<Host> {
    Ok(Host {
        suite: Arc::new(BundledSuite::new(config)),
        models: Arc::new(ProgramModels { config: config.clone() }),
        prompts: Arc::new(ProgramPrompts::new(config)?),
        tools: milepost_runner::browser::tools(config.browser.proxy.as_deref())?,
        program: std::env::current_exe().context("the path of this program cannot be found")?,
    })
}
