//! A store for episodes that nobody needs afterwards: demonstrations, which are kept as examples, and reference runs.

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::config::Screenshots;
use milepost_runtime::store::{EpisodeSummary, Pruned, TrainingQuery};
use milepost_runtime::{Agent, Call, Environment, Episode, EpisodeStore, NoListener, Plan, Policy, Result, Step, Tool};
use tokio::sync::watch;

/// An agent whose episode nobody keeps, watches or draws.
pub fn unkept<'a>(
    policy: &'a dyn Policy,
    environment: &'a mut dyn Environment,
    tools: &'a [Arc<dyn Tool>],
    listener: &'a mut NoListener,
    cancel: watch::Receiver<bool>,
) -> Agent<'a> {
    let (verifier, overseer, screenshots, generation, seed) = (None, None, Screenshots::Off, policy.name().to_owned(), 0);
    Agent { policy, verifier, environment, tools, store: &Forgetful, listener, overseer, cancel, screenshots, generation, seed }
}

/// Forgets everything.
pub struct Forgetful;

#[async_trait]
impl EpisodeStore for Forgetful {
    async fn begin(&self, _: &Episode) -> Result<()> {
        Ok(())
    }
    async fn plan(&self, _: &str, _: &Plan) -> Result<()> {
        Ok(())
    }
    async fn step(&self, _: &str, _: &Step) -> Result<()> {
        Ok(())
    }
    async fn call(&self, _: &str, _: Option<u32>, _: &Call) -> Result<()> {
        Ok(())
    }
    async fn screenshot(&self, _: &str, _: u32, _: &[u8]) -> Result<String> {
        Ok(String::new())
    }
    async fn end(&self, _: &Episode) -> Result<()> {
        Ok(())
    }
    async fn set_success(&self, _: &str, _: Option<bool>) -> Result<()> {
        Ok(())
    }
    async fn load(&self, _: &str) -> Result<Option<Episode>> {
        Ok(None)
    }
    async fn list(&self, _: u32) -> Result<Vec<EpisodeSummary>> {
        Ok(Vec::new())
    }
    async fn trainable(&self, _: &TrainingQuery) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn quarantine(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
    async fn prune(&self, _: chrono::DateTime<chrono::Utc>) -> Result<Pruned> {
        Ok(Pruned::default())
    }
}
