//! The engine: requests wait for their place, a swap flips what serves them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use milepost_runtime::{Engine, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest};
use milepost_text::masked_logprob;

use super::config::LocalModelConfig;
use super::load::{Served, load};
use super::request;
use crate::failed;
use crate::proof::check_probes;
use crate::sampling::CancelOnDrop;

/// A model on this machine, driven by mistralrs.
pub struct MistralEngine {
    config: LocalModelConfig,
    serving: ArcSwap<Served>,
    /// One swap at a time.
    swapping: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for MistralEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MistralEngine({}, {})", self.config.model, self.generation().id())
    }
}

impl MistralEngine {
    /// Loads the model that the configuration names, with its adapter merged where one is named.
    ///
    /// # Errors
    /// A missing, incomplete or mismatched model, by file and fix.
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
        old.drain().await;
        tracing::info!(generation = generation.id(), "a new generation is in service");
        generation
    }
}

#[async_trait]
impl Engine for MistralEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let served = self.serving.load_full();
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let flag = cancel.0.clone();
        // A task of its own: a caller that goes away must not free the place while the engine still works on the request.
        let task = tokio::spawn(async move { served.generate(request, &flag).await });
        let result = task.await.map_err(|error| failed(format!("the request's task failed: {error}")))?;
        drop(cancel);
        result
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        let served = self.serving.load_full();
        score(served, request).await
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

/// Holds a model to the probes of its adapter.
async fn prove(served: &Arc<Served>, probes: &Probes) -> Result<()> {
    let mut answers = Vec::with_capacity(probes.requests.len());
    for probe in &probes.requests {
        answers.push(score(served.clone(), probe.clone()).await?);
    }
    check_probes(probes, &answers, served.tolerance)
}

async fn score(served: Arc<Served>, request: ScoreRequest) -> Result<Vec<f32>> {
    // A task of its own: the engine crate panics when the receiver of raw logits is dropped.
    let task = tokio::spawn(async move { served.score(request).await });
    task.await.map_err(|error| failed(format!("the request's task failed: {error}")))?
}

impl Served {
    async fn generate(self: Arc<Self>, request: GenerateRequest, cancelled: &Arc<AtomicBool>) -> Result<Generated> {
        let (prompt_ids, sampling) = self.front.begin(&request)?;
        let _place = self.places.acquire().await.map_err(failed)?;
        if cancelled.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(failed("the caller has gone"));
        }
        let begun = Instant::now();
        let sampled = request::sample(&self.model, &prompt_ids, &sampling, cancelled).await?;
        Ok(self.front.record(&request, prompt_ids, sampled, begun))
    }

    async fn score(self: Arc<Self>, request: ScoreRequest) -> Result<Vec<f32>> {
        let masks = self.front.masks(&request)?;
        let ScoreRequest { prompt_ids, completion_ids, temperature, .. } = request;
        // All places: the engine crate panics when raw and sampled requests meet in a batch.
        let _places = self.places.acquire_many(self.place_count).await.map_err(failed)?;
        let logits = request::logits(&self.model, &[prompt_ids.as_slice(), &completion_ids].concat()).await?;
        let row = |index: usize| logits.get(prompt_ids.len() - 1 + index).and_then(|row| row.to_vec1::<f32>()).map_err(failed);
        let one = |(index, token): (usize, &u32)| {
            let mask = masks.as_ref().map(|masks| &masks[index]);
            Ok(masked_logprob(&row(index)?, mask, temperature, *token))
        };
        completion_ids.iter().enumerate().map(one).collect()
    }

    /// Waits until no request is in flight; those still waiting keep the model alive until they are answered.
    async fn drain(self: Arc<Self>) {
        drop(self.places.acquire_many(self.place_count).await);
    }
}
