//! The native backend: the trainer's own kernels on a CPU.
//!
//! On a CPU mistralrs computes attention row by row, one request at a time, and its prefix cache gives wrong answers. An agent's prompts
//! are long and share their beginnings, and many requests are in flight when episodes are collected. Here each request has a core of its
//! own, and the keys and values of the latest prompts are cached. The log-probabilities agree with those of mistralrs to 1e-4, so both
//! backends serve the same generations.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use async_trait::async_trait;
use milepost_learners::adapter::Adapter;
use milepost_learners::model::{Decoder, DecoderScratch};
use milepost_learners::{Model, Precision};
use milepost_runtime::{Result, ScoreRequest};
use milepost_text::{BitMask, TextModel, masked_logprob};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::backend::settings_obstacle;
use crate::config::LocalModelConfig;
use crate::failed;
use crate::frontend::{TextFrontend, whole_blocks};
use crate::identity::identity;
use crate::proof::Tolerance;
use crate::sampling::{Completion, Sampled, Sampling};
use crate::served::{Compute, ServedModel};
use crate::source::{Source, hub_id};

/// How many prompts have their keys and values cached, per core.
const CACHED_PROMPTS: usize = 4;

/// A model that the trainer's kernels compute.
struct Native {
    model: Model,
    /// The maximum number of cached prompts.
    capacity: usize,
    /// The cached keys and values of the latest prompts, newest last.
    decoders: Mutex<Vec<Decoder>>,
    /// Scratch buffers, one per concurrent decode.
    scratches: Mutex<Vec<DecoderScratch>>,
}

/// Loads a model, with an adapter merged where one is given.
pub(crate) async fn load(config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<ServedModel> {
    let no_directory = || refused(config, "it is not a directory of safetensors");
    if hub_id(config).is_some() {
        return Err(no_directory());
    }
    let source = Source::find(config)?;
    let Source::Directory(directory) = source.clone() else { return Err(no_directory()) };
    if let Some(obstacle) = settings_obstacle(config) {
        return Err(refused(config, &obstacle));
    }
    let (config, adapter) = (config.clone(), adapter.map(Path::to_owned));
    let build = move || {
        let text = TextModel::load(&directory)?;
        if let Some(rows) = source.vocab_size()? {
            text.check_vocab(rows)?;
        }
        let mut model = Model::load(&directory).map_err(failed)?;
        if let Some(adapter) = &adapter {
            model.adapter = Some(Adapter::load(adapter, &model.config).map_err(failed)?);
        }
        let mut model = model.merged().map_err(failed)?;
        model.precision = Precision::F32;
        let (limit, identity) = (whole_blocks(model.max_tokens()), identity(&source, &config, adapter.as_deref(), parent)?);
        let slot_count = available_parallelism().map_or(1, usize::from) as u32;
        let capacity = CACHED_PROMPTS * slot_count as usize;
        let native = Native { model, capacity, decoders: Mutex::default(), scratches: Mutex::default() };
        Ok(ServedModel {
            compute: Box::new(Arc::new(native)),
            frontend: TextFrontend::new(&config, text, identity, limit)?,
            slot_count,
            slots: Semaphore::new(slot_count as usize),
            score_slots: 1,
            tolerance: Tolerance::Exact,
        })
    };
    spawn_blocking(build).await.map_err(|error| failed(format!("loading the model failed: {error}")))?
}

/// Makes the error that this backend does not compute the model; `reason` is half a sentence.
fn refused(config: &LocalModelConfig, reason: &str) -> milepost_runtime::Error {
    failed(format!(
        "model: {} cannot be served by `local.backend: native` because {reason}; use `local.backend: mistralrs` or `auto`",
        config.model
    ))
}

#[async_trait]
impl Compute for Arc<Native> {
    async fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled> {
        let (native, prompt_ids, cancelled) = (self.clone(), prompt_ids.to_vec(), cancelled.clone());
        on_blocking_thread(move || native.sample_now(&prompt_ids, sampling, &cancelled)).await?
    }

    async fn score(&self, request: ScoreRequest, masks: Option<Vec<BitMask>>) -> Result<Vec<f32>> {
        let native = self.clone();
        on_blocking_thread(move || native.score_now(&request, masks.as_deref())).await
    }
}

/// Runs work that takes a core on tokio's threads for blocking work.
async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| failed(format!("the model's thread failed: {error}")))
}

impl Native {
    /// Samples a completion on this thread.
    fn sample_now(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &AtomicBool) -> Result<Sampled> {
        let (mut decoder, mut scratch, mut completion) = (self.decoder(prompt_ids), self.scratch(), Completion::new(sampling));
        let mut token = completion.next(decoder.read(&self.model, prompt_ids, &mut scratch)).map_err(failed)?;
        while !completion.sampled.finished {
            if cancelled.load(Ordering::Relaxed) {
                return Err(failed("the caller has gone"));
            }
            token = completion.next(decoder.push(&self.model, token, &mut scratch)).map_err(failed)?;
        }
        self.cache(decoder, scratch, prompt_ids);
        Ok(completion.sampled)
    }

    /// Scores a completion on this thread.
    fn score_now(&self, request: &ScoreRequest, masks: Option<&[BitMask]>) -> Vec<f32> {
        let ScoreRequest { prompt_ids, completion_ids, temperature, .. } = request;
        let (mut decoder, mut scratch) = (self.decoder(prompt_ids), self.scratch());
        let mut logprobs = Vec::with_capacity(completion_ids.len());
        for (at, token) in completion_ids.iter().enumerate() {
            let logits = match at {
                0 => decoder.read(&self.model, prompt_ids, &mut scratch),
                _ => decoder.push(&self.model, completion_ids[at - 1], &mut scratch),
            };
            logprobs.push(masked_logprob(logits, masks.map(|masks| &masks[at]), *temperature, *token));
        }
        self.cache(decoder, scratch, prompt_ids);
        logprobs
    }

    /// Takes a free scratch buffer, or a new one.
    fn scratch(&self) -> DecoderScratch {
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes the cached prompt that shares the longest beginning with this one. If none shares enough, it takes a new decoder, or the
    /// oldest one where the cache is full.
    fn decoder(&self, prompt_ids: &[u32]) -> Decoder {
        let mut decoders = self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let shared: Vec<usize> = decoders.iter().map(|decoder| decoder.cached_prefix(prompt_ids)).collect();
        // A prompt that shares only the beginning that all prompts have belongs to another episode, whose next turn will reuse it.
        match (0..shared.len()).max_by_key(|at| shared[*at]).filter(|at| 4 * shared[*at] > prompt_ids.len()) {
            Some(at) => decoders.remove(at),
            None if decoders.len() >= self.capacity => decoders.remove(0),
            None => Decoder::default(),
        }
    }

    /// Caches the keys and values of a prompt. Those of the completion behind it are dropped: computed again in one block they would differ
    /// in the last bits from those computed token by token, and an answer must not depend on earlier requests.
    fn cache(&self, mut decoder: Decoder, scratch: DecoderScratch, prompt_ids: &[u32]) {
        decoder.truncate(prompt_ids.len());
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        self.decoders.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
    }
}
