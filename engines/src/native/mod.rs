//! The native backend: the trainer's own kernels on a CPU.
//!
//! mistralrs computes attention on a CPU row by row, one request at a time, and its prefix cache answers wrongly there. An agent's
//! prompts are long, alike in their beginnings, and many are in flight when episodes are collected. Here each request has a core, and the
//! keys and values of the latest prompts are kept. It answers for the same generations: its log-probabilities are mistralrs' to 1e-4.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use async_trait::async_trait;
use milepost_learners::adapter::Adapter;
use milepost_learners::model::{Decoder, Desk};
use milepost_learners::{Model, Precision};
use milepost_runtime::hash::adapter_hash;
use milepost_runtime::{Result, ScoreRequest};
use milepost_text::{BitMask, TextModel, masked_logprob};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::failed;
use crate::local::{
    Completion, Compute, Front, Isq, LocalModelConfig, Sampled, Sampling, Served, Source, WeightType, hash_base, whole_blocks,
};
use crate::proof::Tolerance;

/// Prompts whose keys and values are kept, for each core.
const KEPT: usize = 4;

/// A model that the trainer's kernels compute.
struct Native {
    model: Model,
    /// Prompts that are kept.
    kept: usize,
    /// The latest prompts, as far as they were read; the newest last.
    readers: Mutex<Vec<Decoder>>,
    /// What reading takes, for as many threads as have read at once.
    desks: Mutex<Vec<Desk>>,
}

/// Loads a model, with an adapter merged where one is given.
pub(crate) async fn load(config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<Served> {
    let source = Source::find(config)?;
    let Source::Directory(directory) = source.clone() else {
        return Err(refused(config, "is not a directory of safetensors"));
    };
    if config.isq.is_some() || config.dtype == WeightType::Bf16 {
        let what = config.isq.map_or("dtype: bf16", Isq::name);
        return Err(refused(config, &format!("cannot be served with {what}")));
    }
    let base = hash_base(&source, config)?;
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
        let (limit, hash) = (whole_blocks(model.max_tokens()), adapter.as_deref().map(adapter_hash).transpose()?);
        let place_count = available_parallelism().map_or(1, usize::from) as u32;
        let native = Native { model, kept: KEPT * place_count as usize, readers: Mutex::default(), desks: Mutex::default() };
        Ok(Served {
            compute: Box::new(Arc::new(native)),
            front: Front::new(&config, text, base, hash, parent, limit)?,
            place_count,
            places: Semaphore::new(place_count as usize),
            score_places: 1,
            tolerance: Tolerance::Exact,
        })
    };
    spawn_blocking(build).await.map_err(|error| failed(format!("loading the model failed: {error}")))?
}

fn refused(config: &LocalModelConfig, what: &str) -> milepost_runtime::Error {
    failed(format!("model: {} {what} by `local.backend: native`; use `local.backend: mistralrs`", config.model))
}

#[async_trait]
impl Compute for Arc<Native> {
    async fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled> {
        let (native, prompt_ids, cancelled) = (self.clone(), prompt_ids.to_vec(), cancelled.clone());
        on_a_core(move || native.sample_now(&prompt_ids, sampling, &cancelled)).await?
    }

    async fn score(&self, request: ScoreRequest, masks: Option<Vec<BitMask>>) -> Result<Vec<f32>> {
        let native = self.clone();
        on_a_core(move || native.score_now(&request, masks.as_deref())).await
    }
}

async fn on_a_core<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| failed(format!("the model's thread failed: {error}")))
}

impl Native {
    /// Samples a completion, on this thread.
    fn sample_now(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &AtomicBool) -> Result<Sampled> {
        let (mut reader, mut desk, mut completion) = (self.reader(prompt_ids), self.desk(), Completion::new(sampling));
        let mut token = completion.next(reader.read(&self.model, prompt_ids, &mut desk)).map_err(failed)?;
        while !completion.sampled.finished {
            if cancelled.load(Ordering::Relaxed) {
                return Err(failed("the caller has gone"));
            }
            token = completion.next(reader.push(&self.model, token, &mut desk)).map_err(failed)?;
        }
        self.keep(reader, desk, prompt_ids);
        Ok(completion.sampled)
    }

    fn score_now(&self, request: &ScoreRequest, masks: Option<&[BitMask]>) -> Vec<f32> {
        let ScoreRequest { prompt_ids, completion_ids, temperature, .. } = request;
        let (mut reader, mut desk) = (self.reader(prompt_ids), self.desk());
        let mut logprobs = Vec::with_capacity(completion_ids.len());
        for (at, token) in completion_ids.iter().enumerate() {
            let logits = match at {
                0 => reader.read(&self.model, prompt_ids, &mut desk),
                _ => reader.push(&self.model, completion_ids[at - 1], &mut desk),
            };
            logprobs.push(masked_logprob(logits, masks.map(|masks| &masks[at]), *temperature, *token));
        }
        self.keep(reader, desk, prompt_ids);
        logprobs
    }

    fn desk(&self) -> Desk {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// The kept prompt that this one goes on from, or else room for a new one: the oldest's.
    fn reader(&self, prompt_ids: &[u32]) -> Decoder {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let shared: Vec<usize> = readers.iter().map(|reader| reader.shared(prompt_ids)).collect();
        // One that begins alike only as all prompts do belongs to another episode, which will go on from it.
        match (0..shared.len()).max_by_key(|at| shared[*at]).filter(|at| 4 * shared[*at] > prompt_ids.len()) {
            Some(at) => readers.remove(at),
            None if readers.len() >= self.kept => readers.remove(0),
            None => Decoder::default(),
        }
    }

    /// Keeps what was read of a prompt. What was sampled after it is let go: read again at once, it would differ in the last bits from
    /// what was read token by token, and an answer must not depend on what was asked before.
    fn keep(&self, mut reader: Decoder, desk: Desk, prompt_ids: &[u32]) {
        reader.truncate(prompt_ids.len());
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }
}
