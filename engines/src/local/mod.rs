//! A model on this machine, whatever computes it: requests wait for their place, a swap flips what serves them.

mod config;
mod front;
mod sampling;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use milepost_runtime::{Engine, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest};
use milepost_text::BitMask;
use tokio::sync::Semaphore;

pub use config::{Backend, Isq, LocalModelConfig, WeightType};
pub(crate) use front::{Front, whole_blocks};
pub(crate) use sampling::{Completion, Sampled, Sampling};
pub(crate) use source::{Source, hash_base};
pub use source::{base_hash, is_hub_id};

use crate::failed;
use crate::proof::{Tolerance, check_probes};
use crate::{mistral, native};

/// What computes the tokens of a model.
#[async_trait]
pub(crate) trait Compute: Send + Sync {
    /// Samples a completion; it may end early once nobody wants it.
    async fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled>;

    /// The log-probability of each token of a completion, under its masks; nats.
    async fn score(&self, request: ScoreRequest, masks: Option<Vec<BitMask>>) -> Result<Vec<f32>>;
}

/// A model in service: everything that one generation answers with.
pub(crate) struct Served {
    pub(crate) compute: Box<dyn Compute>,
    pub(crate) front: Front,
    /// Requests at once.
    pub(crate) place_count: u32,
    /// A place for each of them.
    pub(crate) places: Semaphore,
    /// Places that scoring takes.
    pub(crate) score_places: u32,
    /// How closely its proof must agree.
    pub(crate) tolerance: Tolerance,
}

/// A model on this machine, computed by what `local.backend` names.
pub struct LocalEngine {
    config: LocalModelConfig,
    serving: ArcSwap<Served>,
    /// One swap at a time.
    swapping: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalEngine({:?}, {}, {})", self.config.backend, self.config.model, self.generation().id())
    }
}

impl LocalEngine {
    /// Loads the model that the configuration names, with its adapter merged where one is named.
    ///
    /// # Errors
    /// A missing, incomplete or mismatched model, or one that the backend does not compute, by file and fix.
    pub async fn load(config: &LocalModelConfig) -> Result<Self> {
        let served = load(config, config.adapter.as_deref(), None).await?;
        Ok(Self { config: config.clone(), serving: ArcSwap::from_pointee(served), swapping: tokio::sync::Mutex::default() })
    }

    /// Most tokens of prompt and completion together.
    pub fn max_seq(&self) -> usize {
        self.serving.load().front.max_seq
    }

    /// Holds what serves now to the probes of its adapter: the proof of a start with an adapter.
    ///
    /// # Errors
    /// A model that is not the trainer's, and by how much.
    pub async fn prove(&self, probes: &Probes) -> Result<()> {
        prove(&self.serving.load_full(), probes).await
    }

    /// Puts a model into service and waits until nobody is served by the old one.
    async fn flip(&self, next: Arc<Served>) -> Generation {
        let generation = next.front.generation.clone();
        let old = self.serving.swap(next);
        // Those still waiting keep the old model alive until they are answered.
        drop(old.places.acquire_many(old.place_count).await);
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
        // A task of its own: a caller that goes away must not free the place while the model still works on the request.
        let result = apart(async move { served.generate(request, &flag).await }).await;
        drop(cancel);
        result
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        score(self.serving.load_full(), request).await
    }

    fn generation(&self) -> Generation {
        self.serving.load().front.generation.clone()
    }

    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation> {
        let _one = self.swapping.lock().await;
        let parent = self.generation().id();
        let next = Arc::new(load(&self.config, Some(adapter), Some(parent)).await?);
        prove(&next, probes).await?;
        Ok(self.flip(next).await)
    }

    async fn serve_base(&self) -> Result<Generation> {
        let _one = self.swapping.lock().await;
        Ok(self.flip(Arc::new(load(&self.config, None, None).await?)).await)
    }
}

/// Loads a model, with an adapter merged where one is given.
async fn load(config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<Served> {
    match config.backend {
        Backend::Mistralrs => mistral::load(config, adapter, parent).await,
        Backend::Native => native::load(config, adapter, parent).await,
    }
}

/// Holds a model to the probes of its adapter.
async fn prove(served: &Arc<Served>, probes: &Probes) -> Result<()> {
    let mut answers = Vec::with_capacity(probes.requests.len());
    for probe in &probes.requests {
        answers.push(score(served.clone(), probe.clone()).await?);
    }
    check_probes(probes, &answers, served.tolerance)
}

/// In a task of its own: mistralrs panics when the receiver of raw logits is dropped.
async fn score(served: Arc<Served>, request: ScoreRequest) -> Result<Vec<f32>> {
    apart(async move {
        let masks = served.front.masks(&request)?;
        let _places = served.places.acquire_many(served.score_places).await.map_err(failed)?;
        served.compute.score(request, masks).await
    })
    .await
}

async fn apart<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|error| failed(format!("the request's task failed: {error}")))?
}

impl Served {
    async fn generate(&self, request: GenerateRequest, cancelled: &Arc<AtomicBool>) -> Result<Generated> {
        let (prompt_ids, sampling) = self.front.begin(&request)?;
        let _place = self.places.acquire().await.map_err(failed)?;
        if cancelled.load(Ordering::Relaxed) {
            return Err(failed("the caller has gone"));
        }
        let begun = Instant::now();
        let sampled = self.compute.sample(&prompt_ids, sampling, cancelled).await?;
        Ok(self.front.record(&request, prompt_ids, sampled, begun))
    }
}

/// Sets a flag when the caller is dropped, so that the work can end early.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
