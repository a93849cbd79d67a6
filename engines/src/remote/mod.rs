//! The remote engine: any server that speaks the OpenAI protocol, with guided decoding and log-probabilities where it has them.

mod base;
mod config;
mod protocol;
mod transport;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use milepost_runtime::hash::adapter_hash;
use milepost_runtime::registry::registered_base;
use milepost_runtime::{Call, Engine, Error, GenerateRequest, Generated, Generation, GenerationEngine, Probes, Result, ScoreRequest, Span};
use serde_json::json;

use crate::failed;
use crate::proof::{Tolerance, check_probes};
use base::Base;
pub use config::{GrammarField, RemoteModelConfig};
use transport::Transport;

/// A model behind an OpenAI-protocol server (vLLM, SGLang, llama.cpp, mistralrs-server).
///
/// If the configuration names its base, prompts are sent and completions received as token ids (vLLM), and its episodes can be trained on.
/// Otherwise token ids stay unknown: the recorded calls have empty `completion_ids`, so the episodes can be judged but not trained on.
#[derive(Debug)]
pub struct RemoteEngine {
    config: RemoteModelConfig,
    base: Option<Base>,
    transport: Transport,
    serving: RwLock<Serving>,
    /// Held while a swap is under way, so that there is only one at a time.
    swapping: tokio::sync::Mutex<()>,
}

/// The model that requests name, with its generation.
#[derive(Clone, Debug)]
struct Serving {
    model: String,
    generation: Generation,
    /// The adapter and its probes, to load it again on a server that was restarted.
    adapter: Option<Arc<(PathBuf, Probes)>>,
}

impl RemoteEngine {
    /// Creates an engine for the server that the configuration names; nothing is sent yet.
    ///
    /// # Errors
    /// The URL is not http(s), the model name is empty, the variable of the API key is not set, or the base is incomplete.
    pub fn new(config: &RemoteModelConfig) -> Result<Self> {
        config.check()?;
        let transport = Transport::new(config)?;
        let base = config.base.as_deref().map(|directory| Base::load(config, directory)).transpose()?;
        let generation = base.as_ref().map_or_else(|| generation_of_unknown_base(config), Base::generation);
        let serving = RwLock::new(Serving { model: config.model.clone(), generation, adapter: None });
        Ok(Self { config: config.clone(), base, transport, serving, swapping: tokio::sync::Mutex::default() })
    }

    /// Completes a chat with the server's own chat template and tokenizer, which are not known here.
    async fn chat(&self, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        let body = protocol::chat_body(&self.config, &serving.model, &request)?;
        let started = Instant::now();
        let answer = self.transport.post("/v1/chat/completions", &body).await?;
        let completion = protocol::chat_completion(&answer)?;
        let call = Call {
            role: request.role,
            prompt_ids: Vec::new(),
            completion_ids: Vec::new(),
            spans: vec![Span { role: request.role, start: 0, end: completion.logprobs.len() }],
            grammar: request.grammar,
            logprobs: completion.logprobs,
            free_logprobs: Vec::new(),
            temperature: request.temperature,
            seed: request.seed,
            generation: serving.generation.id(),
            latency_ms: started.elapsed().as_secs_f64() * 1e3,
        };
        Ok(Generated { text: completion.text, call, ends: completion.ends })
    }

    /// Completes a prompt given as token ids; the server returns token ids.
    async fn complete(&self, base: &Base, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        // A grammar that is not sent to the server must not be recorded with the call.
        let request = GenerateRequest { grammar: request.grammar.filter(|_| self.config.grammar != GrammarField::Off), ..request };
        let (prompt_ids, max_tokens) = base.begin(&request)?;
        if request.temperature != 1.0 && request.temperature != 0.0 && !base.temperature_checked() {
            let plain = self.top_logprobs(&serving.model, &prompt_ids, 1.0).await?;
            let tempered = self.top_logprobs(&serving.model, &prompt_ids, request.temperature).await?;
            base.check_temperature(request.temperature, &plain, &tempered)?;
        }
        let body = protocol::completion_body(&self.config, &serving.model, &request, &prompt_ids, max_tokens);
        let started = Instant::now();
        let answer = self.transport.post("/v1/completions", &body).await?;
        let (ids, logprobs) = protocol::completion_tokens(&answer, &self.config.url)?;
        let mut generated = base.record(&request, prompt_ids, ids, logprobs, started)?;
        generated.call.generation = serving.generation.id();
        Ok(generated)
    }

    /// Asks the server for the likeliest tokens after a prompt, with their log-probabilities.
    async fn top_logprobs(&self, model: &str, prompt_ids: &[u32], temperature: f32) -> Result<BTreeMap<String, f32>> {
        let body = protocol::top_logprobs_body(model, prompt_ids, temperature);
        Ok(protocol::top_logprobs(&self.transport.post("/v1/completions", &body).await?))
    }

    fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes all further requests name this model.
    fn switch_to(&self, serving: Serving) -> Generation {
        let generation = serving.generation.clone();
        *self.serving.write().unwrap_or_else(std::sync::PoisonError::into_inner) = serving;
        generation
    }

    /// Reloads and re-proves an adapter that the server lost; returns true if it did.
    async fn reload_lost_adapter(&self, serving: &Serving, error: &Error) -> Result<bool> {
        let Some(adapter) = serving.adapter.as_ref().filter(|_| protocol::says_unknown_model(error, &serving.model)) else {
            return Ok(false);
        };
        tracing::warn!(model = serving.model, "the server has forgotten the adapter; it is loaded again");
        let _guard = self.swapping.lock().await;
        self.load(&serving.model, &adapter.0, &adapter.1).await?;
        Ok(true)
    }

    /// Generates a completion with the model in service.
    async fn generate_with(&self, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        match &self.base {
            Some(base) => self.complete(base, serving, request).await,
            None => self.chat(serving, request).await,
        }
    }

    /// Loads an adapter over vLLM's `/v1/load_lora_adapter` and proves it; an adapter that fails its proof is unloaded again.
    async fn load(&self, name: &str, path: &Path, probes: &Probes) -> Result<()> {
        let load = json!({ "lora_name": name, "lora_path": path });
        let loaded = match self.transport.post_text("/v1/load_lora_adapter", &load).await {
            // The name contains the hash of the files, so the adapter under this name is the same one. It is not unloaded later, since
            // other clients may use it.
            Err(error) if error.to_string().contains("already been loaded") => false,
            loaded => {
                let fix = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True";
                loaded.map_err(|error| failed(format!("{error}; {fix}")))?;
                true
            }
        };
        if let Err(error) = self.prove(name, probes).await {
            if loaded && let Err(unload) = self.transport.post_text("/v1/unload_lora_adapter", &json!({ "lora_name": name })).await {
                tracing::warn!(%unload, name, "the refused adapter stays loaded on the server");
            }
            return Err(error);
        }
        Ok(())
    }

    /// Scores a completion with this model; `None` if the server offers no prompt log-probabilities.
    async fn score_as(&self, model: &str, request: &ScoreRequest) -> Result<Option<Vec<f32>>> {
        if request.grammar.is_some() || (request.temperature != 1.0 && request.temperature != 0.0) {
            return Err(failed("a remote server scores only freely and at temperature 1; score under a grammar with a local model"));
        }
        let ids = [request.prompt_ids.as_slice(), &request.completion_ids].concat();
        let body = json!({ "model": model, "prompt": ids, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0 });
        let answer = self.transport.post("/v1/completions", &body).await?;
        protocol::prompt_logprobs(&answer, request)
    }

    /// Checks that this model of the server gives the probes of its adapter the expected log-probabilities.
    async fn prove(&self, model: &str, probes: &Probes) -> Result<()> {
        let mut answers = Vec::with_capacity(probes.requests.len());
        for probe in &probes.requests {
            match self.score_as(model, probe).await? {
                Some(logprobs) => answers.push(logprobs),
                None => {
                    let problem =
                        "offers no prompt log-probabilities, so that no adapter can be proved; serve with vLLM, or without an adapter";
                    return Err(failed(format!("{} {problem}", self.config.url)));
                }
            }
        }
        check_probes(probes, &answers, Tolerance::Rounded)
    }
}

#[async_trait]
impl Engine for RemoteEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let serving = self.serving();
        match self.generate_with(&serving, request.clone()).await {
            Err(error) if self.reload_lost_adapter(&serving, &error).await? => self.generate_with(&serving, request).await,
            answered => answered,
        }
    }

    fn generation(&self) -> Generation {
        self.serving().generation
    }
}

#[async_trait]
impl GenerationEngine for RemoteEngine {
    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        let serving = self.serving();
        let scored = match self.score_as(&serving.model, &request).await {
            Err(error) if self.reload_lost_adapter(&serving, &error).await? => self.score_as(&serving.model, &request).await,
            scored => scored,
        }?;
        scored.ok_or_else(|| failed(format!("{} offers no prompt log-probabilities; score with vLLM or a local model", self.config.url)))
    }

    /// Loads the adapter (the server must be able to read the directory), proves it, and names it in all further requests.
    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation> {
        let _guard = self.swapping.lock().await;
        let path = adapter.canonicalize().map_err(|error| failed(format!("adapter: {}: {error}", adapter.display())))?;
        let hash = adapter_hash(&path)?;
        let name = format!("milepost-{hash}");
        self.load(&name, &path, probes).await?;
        let old = self.serving();
        let registered_base = registered_base(&path, &old.generation.base, None)?;
        let generation = Generation { adapter: Some(hash), parent: Some(old.generation.id()), registered_base, ..old.generation };
        Ok(self.switch_to(Serving { model: name, generation, adapter: Some(Arc::new((path, probes.clone()))) }))
    }

    /// Names the configured model in all further requests.
    async fn serve_base(&self) -> Result<Generation> {
        let _guard = self.swapping.lock().await;
        let generation = self.generation().base_model();
        Ok(self.switch_to(Serving { model: self.config.model.clone(), generation, adapter: None }))
    }
}

/// Makes the generation of a model of which only the server's address and the model's name are known.
fn generation_of_unknown_base(config: &RemoteModelConfig) -> Generation {
    Generation {
        base: milepost_text::hash16(format!("{}\0{}", config.url, config.model).as_bytes()),
        tokenizer: "remote".into(),
        chat_template: "remote".into(),
        prompts: config.prompts_hash.clone(),
        ..Generation::default()
    }
}
