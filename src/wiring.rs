//! Creates the stores and browsers that the configuration describes.

use anyhow::{Context, Result};
use milepost_runner::RunSettings;
use milepost_runtime::{DirectoryRegistry, Secrets, SqliteStore};
use milepost_tools::browser::BrowserEnvironment;

use crate::config::Config;

/// Returns the registry of generations, whose directory is beside the episodes.
pub fn registry(config: &Config) -> DirectoryRegistry {
    DirectoryRegistry::new(config.episodes.directory.join("adapters"))
}

/// Opens the episode store.
///
/// # Errors
/// The directory or database cannot be opened.
pub async fn store(config: &Config) -> Result<SqliteStore> {
    Ok(SqliteStore::open(&config.episodes.directory).await?)
}

/// Starts a browser.
///
/// # Errors
/// The browser or its driver cannot be started.
pub async fn browser(config: &Config, secrets: Secrets) -> Result<BrowserEnvironment> {
    BrowserEnvironment::launch(&config.browser, secrets)
        .await
        .context("the browser could not be started; `milepost doctor` shows what is missing")
}

/// Returns the settings with which a task is carried out.
pub fn run_settings(config: &Config) -> RunSettings {
    RunSettings { browser: config.browser.clone(), planners: config.policy.clone(), screenshots: config.episodes.screenshots }
}
