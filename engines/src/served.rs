//! A model in service: its computation by a backend, its text side and its request slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use milepost_runtime::{GenerateRequest, Generated, Probes, Result, ScoreRequest};
use milepost_text::BitMask;
use tokio::sync::Semaphore;

use crate::failed;
use crate::frontend::TextFrontend;
use crate::proof::{Tolerance, check_probes};
use crate::sampling::{Sampled, Sampling};

/// Computes the tokens of a model; each backend implements it.
#[async_trait]
pub(crate) trait Compute: Send + Sync {
    /// Samples a completion. It may end early once `cancelled` is set, since the caller no longer waits for it.
    async fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled>;

    /// Computes the log-probability of each token of a completion under its masks, in nats.
    async fn score(&self, request: ScoreRequest, masks: Option<Vec<BitMask>>) -> Result<Vec<f32>>;
}

/// A model in service, with everything that it needs to answer requests.
pub(crate) struct ServedModel {
    /// The backend's computation.
    pub(crate) compute: Box<dyn Compute>,
    /// The text side.
    pub(crate) frontend: TextFrontend,
    /// How many requests may run at once.
    pub(crate) slot_count: u32,
    /// One permit for each slot.
    pub(crate) slots: Semaphore,
    /// How many slots scoring takes.
    pub(crate) score_slots: u32,
    /// How closely its proof must agree with the trainer.
    pub(crate) tolerance: Tolerance,
}

impl ServedModel {
    /// Generates one completion once a slot is free.
    pub(crate) async fn generate(&self, request: GenerateRequest, cancelled: &Arc<AtomicBool>) -> Result<Generated> {
        let (prompt_ids, sampling) = self.frontend.begin(&request)?;
        let _slot = self.slots.acquire().await.map_err(failed)?;
        if cancelled.load(Ordering::Relaxed) {
            return Err(failed("the caller has gone"));
        }
        let started = Instant::now();
        let sampled = self.compute.sample(&prompt_ids, sampling, cancelled).await?;
        Ok(self.frontend.record(&request, prompt_ids, sampled, started))
    }
}

/// Scores a completion. It runs in a task of its own, because mistralrs panics when the receiver of raw logits is dropped.
pub(crate) async fn score(model: Arc<ServedModel>, request: ScoreRequest) -> Result<Vec<f32>> {
    in_own_task(async move {
        let masks = model.frontend.masks(&request)?;
        let _slots = model.slots.acquire_many(model.score_slots).await.map_err(failed)?;
        model.compute.score(request, masks).await
    })
    .await
}

/// Checks that a model gives the probes of its adapter the log-probabilities that the trainer computed.
pub(crate) async fn prove(model: &Arc<ServedModel>, probes: &Probes) -> Result<()> {
    let mut answers = Vec::with_capacity(probes.requests.len());
    for probe in &probes.requests {
        answers.push(score(model.clone(), probe.clone()).await?);
    }
    check_probes(probes, &answers, model.tolerance)
}

/// Runs work in a task of its own, which continues when the caller is dropped.
pub(crate) async fn in_own_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|error| failed(format!("the request's task failed: {error}")))?
}
