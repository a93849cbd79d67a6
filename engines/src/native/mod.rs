//! The native engine: the trainer's own kernels on a CPU.
//!
//! mistralrs computes attention on a CPU row by row, one request at a time, and its prefix cache answers wrongly there. An agent's
//! prompts are long, alike in their beginnings, and many are in flight when episodes are collected. Here each request has a core, and the
//! keys and values of the latest prompts are kept. It answers for the same generations: its log-probabilities are mistralrs' to 1e-4.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use milepost_learners::adapter::Adapter;
use milepost_learners::model::{Decoder, Desk};
use milepost_learners::{Model, Precision};
use milepost_runtime::hash::adapter_hash;
use milepost_runtime::{Engine, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest};
use milepost_text::{BitMask, GrammarCompiler, TextModel, masked_logprob};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::failed;
use crate::front::Front;
use crate::mistral::LocalModelConfig;
use crate::mistral::load::{CACHE_BLOCK, hash_base};
use crate::mistral::source::Source;
use crate::mistral::{Isq, WeightType};
use crate::proof::{Tolerance, check_probes};
use crate::sampling::{CancelOnDrop, Completion, Sampled, Sampling};

/// Prompts whose keys and values are kept, for each core.
const KEPT: usize = 4;

/// A model on this machine's CPU, computed by the trainer's kernels.
pub struct NativeEngine {
    config: LocalModelConfig,
    serving: ArcSwap<Served>,
    /// One swap at a time.
    swapping: tokio::sync::Mutex<()>,
}

/// A model in service.
struct Served {
    model: Model,
    front: Front,
    places: Semaphore,
    place_count: u32,
    /// The latest prompts, as far as they were read; the newest last.
    readers: Mutex<Vec<Decoder>>,
    /// What reading takes, for as many threads as have read at once.
    desks: Mutex<Vec<Desk>>,
}

impl std::fmt::Debug for NativeEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NativeEngine({}, {})", self.config.model, self.generation().id())
    }
}

impl NativeEngine {
    /// Loads the model that the configuration names, with its adapter merged where one is named.
    ///
    /// # Errors
    /// A missing, incomplete or mismatched model, or one that only mistralrs computes, by file and fix.
    pub async fn load(config: &LocalModelConfig) -> Result<Self> {
        let served = load(config, config.adapter.as_deref(), None).await?;
        Ok(Self { config: config.clone(), serving: ArcSwap::from_pointee(served), swapping: tokio::sync::Mutex::default() })
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
        drop(old.places.acquire_many(old.place_count).await);
        tracing::info!(generation = generation.id(), "a new generation is in service");
        generation
    }
}

#[async_trait]
impl Engine for NativeEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let served = self.serving.load_full();
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let flag = cancel.0.clone();
        // A task of its own: a caller that goes away must not free the place while a core still works on the request.
        let task = tokio::spawn(async move {
            let (prompt_ids, sampling) = served.front.begin(&request)?;
            let _place = served.places.acquire().await.map_err(failed)?;
            let begun = Instant::now();
            let work = {
                let (served, prompt_ids) = (served.clone(), prompt_ids.clone());
                move || served.sample(&prompt_ids, sampling, &flag)
            };
            let sampled = spawn_blocking(work).await.map_err(|error| failed(format!("the model's thread failed: {error}")))??;
            Ok(served.front.record(&request, prompt_ids, sampled, begun))
        });
        let result = task.await.map_err(|error| failed(format!("the request's task failed: {error}")))?;
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
    let source = Source::find(config)?;
    let Source::Directory(directory) = source.clone() else {
        return Err(refused(config, "is not a directory of safetensors"));
    };
    if config.isq.is_some() || config.dtype == WeightType::Bf16 {
        let what = config.isq.map_or("dtype: bf16", Isq::name);
        return Err(refused(config, &format!("cannot be served with {what}")));
    }
    let base = hash_base(&source, config)?;
    let prompts = config.prompts_hash.clone();
    let (adapter, most) = (adapter.map(Path::to_owned), config.max_seq);
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
        let limit = model.max_tokens();
        // The same limit as mistralrs': whatever computes it, a prompt is cut to the same page.
        let max_seq = if limit >= CACHE_BLOCK { limit / CACHE_BLOCK * CACHE_BLOCK } else { limit };
        let generation = Generation {
            base,
            tokenizer: text.tokenizer.hash(),
            chat_template: text.template.hash(),
            prompts,
            adapter: adapter.as_deref().map(adapter_hash).transpose()?,
            parent,
        };
        let compiler = GrammarCompiler::new(&text)?;
        let place_count = available_parallelism().map_or(1, usize::from) as u32;
        Ok(Served {
            model,
            front: Front { text, compiler, generation, max_seq: max_seq.min(most.unwrap_or(usize::MAX)) },
            places: Semaphore::new(place_count as usize),
            place_count,
            readers: Mutex::default(),
            desks: Mutex::default(),
        })
    };
    spawn_blocking(build).await.map_err(|error| failed(format!("loading the model failed: {error}")))?
}

fn refused(config: &LocalModelConfig, what: &str) -> milepost_runtime::Error {
    failed(format!("model: {} {what} by `local.backend: native`; use `local.backend: mistralrs`", config.model))
}

/// Holds a model to the probes of its adapter.
async fn prove(served: &Arc<Served>, probes: &Probes) -> Result<()> {
    let mut answers = Vec::with_capacity(probes.requests.len());
    for probe in &probes.requests {
        answers.push(score(served.clone(), probe.clone()).await?);
    }
    check_probes(probes, &answers, Tolerance::Exact)
}

async fn score(served: Arc<Served>, request: ScoreRequest) -> Result<Vec<f32>> {
    let masks = served.front.masks(&request)?;
    let task = tokio::spawn(async move {
        let _place = served.places.acquire().await.map_err(failed)?;
        let work = {
            let served = served.clone();
            move || served.score(&request, masks.as_deref())
        };
        spawn_blocking(work).await.map_err(|error| failed(format!("the model's thread failed: {error}")))
    });
    task.await.map_err(|error| failed(format!("the request's task failed: {error}")))?
}

impl Served {
    /// Samples a completion, on this thread.
    fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &AtomicBool) -> Result<Sampled> {
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

    fn score(&self, request: &ScoreRequest, masks: Option<&[BitMask]>) -> Vec<f32> {
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
            None if readers.len() >= KEPT * self.place_count as usize => readers.remove(0),
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
