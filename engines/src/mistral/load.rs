//! Loads models with mistralrs. Every load has a thread of its own, on which mistralrs' thread-locals are cleared before and after.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use milepost_runtime::{Result, ScoreRequest};
use milepost_text::{BitMask, ChatTemplate, TextModel, Tokenizer, masked_logprob};
use mistralrs::core::Pipeline;
use mistralrs::model_builder_trait::build_model_from_pipeline;
use mistralrs::{AnyModelBuilder, GgufModelBuilder, IsqType, Model, ModelDType, TextModelBuilder, TokenSource, best_device};
use tokio::sync::{Mutex, Semaphore};

use super::adapter::Adapter;
use super::request;
use crate::config::{Isq, LocalModelConfig, WeightType};
use crate::failed;
use crate::frontend::{TextFrontend, whole_blocks};
use crate::identity::identity;
use crate::proof::Tolerance;
use crate::sampling::{Sampled, Sampling};
use crate::served::{Compute, ServedModel};
use crate::source::Source;

/// A model that mistralrs computes.
struct Mistral {
    model: Model,
    /// Returns the freed memory to the system when it is dropped, which is after the model.
    _release: ReleaseMemory,
}

/// The result of the loader thread.
struct Loaded {
    model: Model,
    pipeline: Weak<Mutex<dyn Pipeline>>,
    max_seq: usize,
    on_cpu: bool,
    eos: Vec<u32>,
    text: Option<TextModel>,
}

/// Loads a model, with an adapter merged where one is given.
pub(crate) async fn load(config: &LocalModelConfig, adapter: Option<&Path>, parent: Option<String>) -> Result<ServedModel> {
    let source = Source::find(config)?;
    if let (Source::Gguf(path), Some(_)) = (&source, adapter) {
        return Err(failed(format!(
            "adapter: {} is a GGUF file, into which an adapter cannot be merged; serve the safetensors it was made from",
            path.display()
        )));
    }
    let text = match &source {
        Source::Directory(dir) => Some(TextModel::load(dir)?),
        _ => None,
    };
    if let (Some(text), Some(rows)) = (&text, source.vocab_size()?) {
        text.check_vocab(rows)?;
    }
    let weights = adapter.map(Adapter::load).transpose()?;
    let identity = identity(&source, config, adapter, parent)?;
    let loaded = load_on_new_thread(config.clone(), source.clone(), weights).await?;
    let Some(text) = text.or(loaded.text) else {
        return Err(failed(format!("model: {} has no tokenizer and chat template; give a directory that has both", config.model)));
    };
    if !loaded.eos.contains(&text.end_id()) {
        let name = config.model.as_str();
        return Err(failed(format!(
            "model: {name}: the end token {} is not in generation_config.json's eos_token_id; add it",
            text.end_id()
        )));
    }
    let slot_count = if loaded.on_cpu { 1 } else { config.concurrency.max(1) as u32 };
    // Scoring takes all slots: mistralrs panics when raw and sampled requests meet in a batch.
    let score_slots = slot_count;
    let exact = config.isq.is_none() && weight_type(config, loaded.on_cpu) == ModelDType::F32;
    Ok(ServedModel {
        frontend: TextFrontend::new(config, text, identity, loaded.max_seq)?,
        compute: Box::new(Mistral { model: loaded.model, _release: ReleaseMemory(loaded.pipeline) }),
        slot_count,
        slots: Semaphore::new(slot_count as usize),
        score_slots,
        tolerance: if exact { Tolerance::Exact } else { Tolerance::Rounded },
    })
}

#[async_trait]
impl Compute for Mistral {
    async fn sample(&self, prompt_ids: &[u32], sampling: Sampling, cancelled: &Arc<AtomicBool>) -> Result<Sampled> {
        request::sample(&self.model, prompt_ids, &sampling, cancelled).await
    }

    async fn score(&self, request: ScoreRequest, masks: Option<Vec<BitMask>>) -> Result<Vec<f32>> {
        let ScoreRequest { prompt_ids, completion_ids, temperature, .. } = request;
        let logits = request::logits(&self.model, &[prompt_ids.as_slice(), &completion_ids].concat()).await?;
        let row = |index: usize| logits.get(prompt_ids.len() - 1 + index).and_then(|row| row.to_vec1::<f32>()).map_err(failed);
        let one = |(index, token): (usize, &u32)| {
            let mask = masks.as_ref().map(|masks| &masks[index]);
            Ok(masked_logprob(&row(index)?, mask, temperature, *token))
        };
        completion_ids.iter().enumerate().map(one).collect()
    }
}

/// Loads a model on a new thread, with mistralrs' thread-locals cleared before and after.
async fn load_on_new_thread(config: LocalModelConfig, source: Source, adapter: Option<Adapter>) -> Result<Loaded> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let load = move || {
        mistralrs_quant::clear_applied_loras();
        mistralrs_quant::clear_immediate_isq();
        let result = build(&config, &source, adapter);
        mistralrs_quant::clear_applied_loras();
        mistralrs_quant::clear_immediate_isq();
        // If the caller was dropped, sending fails and drops the model.
        drop(sender.send(result));
    };
    let spawned = std::thread::Builder::new().name("milepost-load".into()).spawn(load);
    spawned.map_err(|error| failed(format!("no thread for loading the model: {error}")))?;
    receiver.await.map_err(|_| failed("loading the model panicked; see the log, and check config.json against the weights"))?
}

/// Builds the model on this thread.
fn build(config: &LocalModelConfig, source: &Source, adapter: Option<Adapter>) -> Result<Loaded> {
    let wrong = |error: &dyn std::fmt::Display| failed(format!("model: {} cannot be loaded: {error}", config.model));
    // mistralrs warms the model up with `block_in_place`, which needs a multi-threaded runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| wrong(&error))?;
    let on_cpu = best_device(false).map_err(|error| wrong(&error))?.is_cpu();
    if on_cpu && config.dtype == WeightType::Bf16 {
        return Err(failed("dtype: bf16 cannot be computed on a CPU; use `dtype: f32`"));
    }
    if let Some(adapter) = adapter {
        push_adapter(adapter, weight_type(config, on_cpu))?;
    }
    let builder = builder(config, source, on_cpu)?;
    runtime.block_on(async {
        let (pipeline, scheduler, options) = builder.build_pipeline().await.map_err(|error| wrong(&format!("{error:#}")))?;
        let weak = Arc::downgrade(&pipeline);
        let (limit, eos, text) = inspect(&pipeline, source).await?;
        let max_seq = if on_cpu { whole_blocks(limit) } else { limit };
        let model = build_model_from_pipeline(pipeline, scheduler, options).await;
        Ok(Loaded { model, pipeline: weak, max_seq, on_cpu, eos, text })
    })
}

/// Returns the number type in which the weights are loaded.
fn weight_type(config: &LocalModelConfig, on_cpu: bool) -> ModelDType {
    match config.dtype {
        WeightType::F32 => ModelDType::F32,
        WeightType::Auto if on_cpu => ModelDType::F32,
        WeightType::Auto | WeightType::Bf16 => ModelDType::BF16,
    }
}

/// Configures mistralrs' builder of the model.
fn builder(config: &LocalModelConfig, source: &Source, on_cpu: bool) -> Result<AnyModelBuilder> {
    let directory = match source {
        Source::Directory(directory) | Source::Hub { snapshot: directory, .. } => directory,
        Source::Gguf(path) => return Ok(gguf_builder(path, on_cpu)),
    };
    let mut builder = TextModelBuilder::new(directory.display())
        .with_dtype(weight_type(config, on_cpu))
        .with_prefix_cache_n(None)
        .with_token_source(TokenSource::None);
    if on_cpu {
        builder = builder.with_force_cpu();
    } else {
        let paged = mistralrs::PagedAttentionMetaBuilder::default().build().map_err(|error| failed(error.to_string()))?;
        builder = builder.with_paged_attn(paged).with_max_num_seqs(config.concurrency.max(1));
    }
    if let Some(isq) = config.isq {
        builder = builder.with_isq(match isq {
            Isq::Q4K => IsqType::Q4K,
            Isq::Q8_0 => IsqType::Q8_0,
        });
    }
    Ok(AnyModelBuilder::Text(builder))
}

/// Configures mistralrs' builder of the model in a GGUF file.
fn gguf_builder(path: &Path, on_cpu: bool) -> AnyModelBuilder {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut builder = GgufModelBuilder::new(dir.display(), vec![file]).with_prefix_cache_n(None).with_token_source(TokenSource::None);
    if on_cpu {
        builder = builder.with_force_cpu();
    }
    AnyModelBuilder::Gguf(builder)
}

/// Adds the adapter to the list of this thread, from which mistralrs' loader merges it.
fn push_adapter(adapter: Adapter, dtype: ModelDType) -> Result<()> {
    let dtype = if dtype == ModelDType::BF16 { DType::BF16 } else { DType::F32 };
    let convert = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_dtype(dtype)?));
    let tensors: candle_core::Result<HashMap<String, Tensor>> = adapter.tensors.into_iter().map(convert).collect();
    let tensors = tensors.map_err(|error| failed(format!("adapter: {error}")))?;
    let weights = mistralrs_quant::ShardedSafeTensors::wrap(Box::new(tensors), dtype, Device::Cpu);
    mistralrs_quant::push_applied_lora(mistralrs_quant::LoraAdapter { config: adapter.config, weights });
    Ok(())
}

/// Returns the context length, the end tokens, and, for a source that includes tokenizer and template, the text model.
async fn inspect(pipeline: &Arc<Mutex<dyn Pipeline>>, source: &Source) -> Result<(usize, Vec<u32>, Option<TextModel>)> {
    let pipeline = pipeline.lock().await;
    let metadata = pipeline.get_metadata();
    let eos = metadata.eos_tok.clone();
    let name = match source {
        Source::Directory(_) => return Ok((metadata.max_seq_len, eos, None)),
        Source::Gguf(path) => path.clone(),
        Source::Hub { id, .. } => id.into(),
    };
    let missing = |what: &str| failed(format!("model: {} carries no {what}; give a directory of safetensors that has one", name.display()));
    let tokenizer = pipeline.tokenizer().ok_or_else(|| missing("tokenizer"))?;
    let json = tokenizer.to_string(false).map_err(|error| failed(format!("{}: its tokenizer: {error}", name.display())))?;
    let tokenizer = Tokenizer::from_json(json.as_bytes()).map_err(|error| failed(format!("{}: its tokenizer: {error}", name.display())))?;
    let chat = pipeline.get_chat_template().ok_or_else(|| missing("chat template"))?;
    let value = chat.chat_template.as_ref().ok_or_else(|| missing("chat template"))?;
    let source = match value.0.as_ref().left() {
        Some(source) => source.clone(),
        None => {
            value.0.as_ref().right().and_then(|named| named.first()?.get("template").cloned()).ok_or_else(|| missing("chat template"))?
        }
    };
    let template = ChatTemplate::new(&source, chat.bos_tok().as_deref(), chat.eos_tok().as_deref())?;
    let mut ends = eos.clone();
    if let Some(end) = template.eos().and_then(|end| tokenizer.token_id(end)) {
        ends.retain(|id| *id != end);
        ends.insert(0, end);
    }
    let text = TextModel::new(tokenizer, template, ends, &name)?;
    Ok((metadata.max_seq_len, eos, Some(text)))
}

/// When dropped, waits in the background until mistralrs' thread has dropped the weights, then returns the freed memory to the system.
struct ReleaseMemory(Weak<Mutex<dyn Pipeline>>);

impl Drop for ReleaseMemory {
    fn drop(&mut self) {
        let pipeline = self.0.clone();
        let wait = move || {
            // mistralrs' thread has no event to wait for, so this polls for at most 10 s.
            for _ in 0..500 {
                if pipeline.strong_count() == 0 {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            trim();
        };
        // If the thread cannot start, the memory stays with the allocator, which does no harm.
        drop(std::thread::Builder::new().name("milepost-release".into()).spawn(wait));
    }
}

/// Returns freed memory to the system, where glibc's allocator is in use.
#[cfg(all(feature = "trim", target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: glibc's `malloc_trim` takes the allocator's own locks and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(feature = "trim", target_os = "linux", target_env = "gnu")))]
fn trim() {}
