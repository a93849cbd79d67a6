//! A model on this machine, whichever backend computes it: requests wait for a slot, and a swap replaces the model that serves them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use milepost_runtime::{Engine, GenerateRequest, Generated, Generation, GenerationEngine, Probes, Result, ScoreRequest};

use crate::backend::{self, Choice};
use crate::config::{Backend, LocalModelConfig};
use crate::native;
use crate::served::{self, ServedModel};

/// A model on this machine, computed by the backend that `local.backend` names.
pub struct LocalEngine {
    config: LocalModelConfig,
    backend: Backend,
    serving: ArcSwap<ServedModel>,
    /// Held while a swap is under way, so that there is only one at a time.
    swapping: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalEngine({:?}, {}, {})", self.backend, self.config.model, self.generation().id())
    }
}

impl LocalEngine {
    /// Loads the model that the configuration names, with its adapter merged where one is named.
    ///
    /// # Errors
    /// The model is missing, incomplete or mismatched, or the backend does not compute it; the message names the file and the fix.
    pub async fn load(config: &LocalModelConfig) -> Result<Self> {
        let Choice { backend, .. } = backend::choose(config)?;
        let served = load(backend, config, config.adapter.as_deref(), None).await?;
        Ok(Self { config: config.clone(), backend, serving: ArcSwap::from_pointee(served), swapping: tokio::sync::Mutex::default() })
    }

    /// Returns the maximum number of tokens of prompt and completion together.
    pub fn max_seq(&self) -> usize {
        self.serving.load().frontend.max_seq
    }

    /// Checks the model in service on the probes of its adapter, as the proof at a start with an adapter.
    ///
    /// # Errors
    /// The model is not the one that was trained; the message says by how much it differs.
    pub async fn prove(&self, probes: &Probes) -> Result<()> {
        served::prove(&self.serving.load_full(), probes).await
    }

    /// Puts a model into service and waits until the old one serves no request any more.
    async fn replace(&self, next: Arc<ServedModel>) -> Generation {
        let generation = next.frontend.generation.clone();
        let old = self.serving.swap(next);
        // Requests that still wait keep the old model alive until they are answered.
        drop(old.slots.acquire_many(old.slot_count).await);
        tracing::info!(generation = generation.id(), "a new generation is in service");
        generation
    }
}

#[async_trait]
impl Engine for LocalEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let served = self.serving.load_full();
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let flag = cancel.0.clone();
        // The request runs in a task of its own, because a caller that is dropped must not free the slot while the model still works on the
        // request.
        let result = served::in_own_task(async move { served.generate(request, &flag).await }).await;
        drop(cancel);
        result
    }

    fn generation(&self) -> Generation {
        self.serving.load().frontend.generation.clone()
    }
}

#[async_trait]
impl GenerationEngine for LocalEngine {
    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        served::score(self.serving.load_full(), request).await
    }

    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation> {
        let _guard = self.swapping.lock().await;
        let parent = self.generation().id();
        let next = Arc::new(load(self.backend, &self.config, Some(adapter), Some(parent)).await?);
        served::prove(&next, probes).await?;
        Ok(self.replace(next).await)
    }

    async fn serve_base(&self) -> Result<Generation> {
        let _guard = self.swapping.lock().await;
        Ok(self.replace(Arc::new(load(self.backend, &self.config, None, None).await?)).await)
    }
}

/// Loads a model with this backend, with an adapter merged where one is given.
async fn load(backend: Backend, config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<ServedModel> {
    match backend {
        Backend::Native => native::load(config, adapter, parent).await,
        #[cfg(feature = "mistralrs")]
        Backend::Mistralrs | Backend::Auto => crate::mistral::load(config, adapter, parent).await,
        #[cfg(not(feature = "mistralrs"))]
        Backend::Mistralrs | Backend::Auto => Err(backend::no_mistralrs(config)),
    }
}

/// Sets a flag when the caller is dropped, so that the work can end early.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
