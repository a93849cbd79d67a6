//! A store that discards episodes: for demonstrations, which are kept as training examples, and for reference runs.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{EpisodeStore, EpisodeSummary, Pruned, TrainingQuery};
use crate::agent::Agent;
use crate::call::Call;
use crate::config::Screenshots;
use crate::episode::{Episode, Step};
use crate::error::Result;
use crate::listener::NoListener;
use crate::plan::Plan;
use crate::traits::{Environment, Policy, Tool};

/// Creates an agent whose episode is neither stored nor watched, without verifier, overseer and screenshots.
pub fn unrecorded_agent<'a>(
    policy: &'a dyn Policy,
    environment: &'a mut dyn Environment,
    tools: &'a [Arc<dyn Tool>],
    listener: &'a mut NoListener,
    cancel: CancellationToken,
) -> Agent<'a> {
    let (verifier, overseer, screenshots, generation, seed) = (None, None, Screenshots::Off, policy.name().to_owned(), 0);
    Agent { policy, verifier, environment, tools, store: &DiscardingStore, listener, overseer, cancel, screenshots, generation, seed }
}

/// A store that keeps nothing.
pub struct DiscardingStore;

#[async_trait]
impl EpisodeStore for DiscardingStore {
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
    async fn prune(&self, _: DateTime<Utc>) -> Result<Pruned> {
        Ok(Pruned::default())
    }
}
