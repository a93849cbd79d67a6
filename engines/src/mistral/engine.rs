//! The engine: requests wait for their place, a swap flips what serves them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use milepost_runtime::{Call, Engine, Error, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest, Span};
use milepost_text::{masked_logprob, rebuild_masks};

use super::config::LocalModelConfig;
use super::load::{Served, load};
use super::request::{self, CancelOnDrop};
use super::sampler::{Sampled, Sampling};
use crate::failed;
use crate::proof::check_probes;

/// Least room for an answer with which a prompt is accepted.
const LEAST_ROOM: usize = 32;

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
        self.serving.load().max_seq
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
        let generation = next.generation.clone();
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
        self.serving.load().generation.clone()
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
        let prompt_ids = self.text.encode_prompt(&request.messages)?;
        let max_tokens = self.room(&prompt_ids, request.max_tokens)?;
        let machine = request.grammar.as_ref().map(|grammar| self.compiler.matcher(grammar)).transpose()?;
        let _place = self.places.acquire().await.map_err(failed)?;
        if cancelled.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(failed("the caller has gone"));
        }
        let begun = Instant::now();
        let make = || {
            Ok(Sampling {
                machine: machine.clone(),
                temperature: request.temperature,
                seed: request.seed,
                max_tokens,
                end_ids: self.text.eos_ids.clone(),
            })
        };
        let sampled = request::sample(&self.model, &prompt_ids, make, cancelled).await?;
        Ok(self.record(&request, prompt_ids, sampled, begun))
    }

    fn record(&self, request: &GenerateRequest, prompt_ids: Vec<u32>, sampled: Sampled, begun: Instant) -> Generated {
        let Sampled { ids, logprobs, free_logprobs, .. } = sampled;
        let (text, ends) = (self.text.decode(&ids), self.text.text_ends(&ids));
        let call = Call {
            role: request.role,
            prompt_ids,
            spans: vec![Span { role: request.role, start: 0, end: ids.len() }],
            completion_ids: ids,
            grammar: request.grammar.clone(),
            logprobs,
            free_logprobs,
            temperature: request.temperature,
            seed: request.seed,
            generation: self.generation.id(),
            latency_ms: begun.elapsed().as_secs_f64() * 1e3,
        };
        Generated { text, call, ends }
    }

    /// Tokens that the completion may have; the engine crate itself would run past the context.
    fn room(&self, prompt_ids: &[u32], wanted: usize) -> Result<usize> {
        let reserved = wanted.clamp(1, LEAST_ROOM);
        let room = self.max_seq.saturating_sub(prompt_ids.len());
        if prompt_ids.is_empty() || room < reserved {
            return Err(Error::PromptTooLong { tokens: prompt_ids.len(), limit: self.max_seq, reserved });
        }
        Ok(room.min(wanted.max(1)))
    }

    async fn score(self: Arc<Self>, request: ScoreRequest) -> Result<Vec<f32>> {
        let ScoreRequest { prompt_ids, completion_ids, grammar, temperature } = request;
        if prompt_ids.is_empty() {
            return Err(failed("a completion can be scored only after a prompt of at least one token"));
        }
        if prompt_ids.len() + completion_ids.len() > self.max_seq {
            return Err(Error::PromptTooLong { tokens: prompt_ids.len(), limit: self.max_seq, reserved: completion_ids.len() });
        }
        let masks = match &grammar {
            Some(grammar) => Some(rebuild_masks(&self.compiler, grammar, &completion_ids)?),
            None => None,
        };
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
