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
use milepost_runtime::{Call, Engine, Error, GenerateRequest, Generated, Generation, Probes, Result, ScoreRequest, Span};
use serde_json::json;

use crate::failed;
use crate::proof::{Tolerance, check_probes};
use base::Base;
pub use config::{GrammarField, RemoteModelConfig};
use transport::Transport;

/// A model behind an OpenAI-protocol server (vLLM, SGLang, llama.cpp, mistralrs-server).
///
/// Where the configuration names its base, prompts go there as token ids and come back as such (vLLM), and its episodes can be trained on. Otherwise
/// token ids stay unknown: the calls it records have empty `completion_ids`, so its episodes can be judged but not trained on.
#[derive(Debug)]
pub struct RemoteEngine {
    config: RemoteModelConfig,
    base: Option<Base>,
    transport: Transport,
    serving: RwLock<Serving>,
    swapping: tokio::sync::Mutex<()>,
}

/// What the server is asked for.
#[derive(Clone, Debug)]
struct Serving {
    model: String,
    generation: Generation,
    /// The adapter and its proof, for a server that was restarted and knows nothing of it.
    adapter: Option<Arc<(PathBuf, Probes)>>,
}

impl RemoteEngine {
    /// An engine for the server that the configuration names; nothing is sent yet.
    ///
    /// # Errors
    /// A URL that is not http(s), an empty model name, an API key variable that is not set, or a base that is incomplete.
    pub fn new(config: &RemoteModelConfig) -> Result<Self> {
        config.check()?;
        let transport = Transport::new(config)?;
        let base = config.base.as_deref().map(|directory| Base::load(config, directory)).transpose()?;
        let generation = base.as_ref().map_or_else(|| unknown(config), Base::generation);
        let serving = RwLock::new(Serving { model: config.model.clone(), generation, adapter: None });
        Ok(Self { config: config.clone(), base, transport, serving, swapping: tokio::sync::Mutex::default() })
    }

    /// The server's own chat template and tokenizer, which nobody here knows.
    async fn chat(&self, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        let body = protocol::chat_body(&self.config, &serving.model, &request)?;
        let begun = Instant::now();
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
            latency_ms: begun.elapsed().as_secs_f64() * 1e3,
        };
        Ok(Generated { text: completion.text, call, ends: completion.ends })
    }

    /// Tokens in, tokens out.
    async fn complete(&self, base: &Base, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        // What the server was not held to is no part of what it said.
        let request = GenerateRequest { grammar: request.grammar.filter(|_| self.config.grammar != GrammarField::Off), ..request };
        let (prompt_ids, max_tokens) = base.begin(&request)?;
        if request.temperature != 1.0 && request.temperature != 0.0 && !base.is_tempered() {
            let plain = self.glance(&serving.model, &prompt_ids, 1.0).await?;
            base.temper(request.temperature, &plain, &self.glance(&serving.model, &prompt_ids, request.temperature).await?)?;
        }
        let body = protocol::completion_body(&self.config, &serving.model, &request, &prompt_ids, max_tokens);
        let begun = Instant::now();
        let answer = self.transport.post("/v1/completions", &body).await?;
        let (ids, logprobs) = protocol::completion_tokens(&answer, &self.config.url)?;
        let mut generated = base.record(&request, prompt_ids, ids, logprobs, begun)?;
        generated.call.generation = serving.generation.id();
        Ok(generated)
    }

    /// The likeliest tokens after a prompt, with their log-probabilities as the server tells them.
    async fn glance(&self, model: &str, prompt_ids: &[u32], temperature: f32) -> Result<BTreeMap<String, f32>> {
        let body = protocol::glance_body(model, prompt_ids, temperature);
        Ok(protocol::likeliest(&self.transport.post("/v1/completions", &body).await?))
    }

    fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// From now on, this model is asked for.
    fn ask_for(&self, serving: Serving) -> Generation {
        let generation = serving.generation.clone();
        *self.serving.write().unwrap_or_else(std::sync::PoisonError::into_inner) = serving;
        generation
    }

    /// Gives a server that was restarted the adapter back that it does not know any more, which it has to prove again; whether it did not.
    async fn reminded(&self, serving: &Serving, error: &Error) -> Result<bool> {
        let Some(adapter) = serving.adapter.as_ref().filter(|_| protocol::is_unknown(error, &serving.model)) else { return Ok(false) };
        tracing::warn!(model = serving.model, "the server has forgotten the adapter; it is loaded again");
        let _one = self.swapping.lock().await;
        self.load(&serving.model, &adapter.0, &adapter.1).await?;
        Ok(true)
    }

    async fn ask(&self, serving: &Serving, request: GenerateRequest) -> Result<Generated> {
        match &self.base {
            Some(base) => self.complete(base, serving, request).await,
            None => self.chat(serving, request).await,
        }
    }

    /// Loads an adapter over vLLM's `/v1/load_lora_adapter` and proves it; one that is refused is unloaded again.
    async fn load(&self, name: &str, path: &Path, probes: &Probes) -> Result<()> {
        let load = json!({ "lora_name": name, "lora_path": path });
        let loaded = match self.transport.post_text("/v1/load_lora_adapter", &load).await {
            // The name is the files' hash: what is loaded under it is this adapter, and others may be served by it.
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

    async fn score_as(&self, model: &str, request: &ScoreRequest) -> Result<Option<Vec<f32>>> {
        if request.grammar.is_some() || (request.temperature != 1.0 && request.temperature != 0.0) {
            return Err(failed("a remote server scores only freely and at temperature 1; score under a grammar with a local model"));
        }
        let ids = [request.prompt_ids.as_slice(), &request.completion_ids].concat();
        let body = json!({ "model": model, "prompt": ids, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0 });
        let answer = self.transport.post("/v1/completions", &body).await?;
        protocol::prompt_logprobs(&answer, request)
    }

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
        match self.ask(&serving, request.clone()).await {
            Err(error) if self.reminded(&serving, &error).await? => self.ask(&serving, request).await,
            answered => answered,
        }
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        let serving = self.serving();
        let scored = match self.score_as(&serving.model, &request).await {
            Err(error) if self.reminded(&serving, &error).await? => self.score_as(&serving.model, &request).await,
            scored => scored,
        }?;
        scored.ok_or_else(|| failed(format!("{} offers no prompt log-probabilities; score with vLLM or a local model", self.config.url)))
    }

    fn generation(&self) -> Generation {
        self.serving().generation
    }

    /// Loads the adapter (the server must see the directory), proves it and asks for it from now on.
    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation> {
        let _one = self.swapping.lock().await;
        let path = adapter.canonicalize().map_err(|error| failed(format!("adapter: {}: {error}", adapter.display())))?;
        let hash = adapter_hash(&path)?;
        let name = format!("milepost-{hash}");
        self.load(&name, &path, probes).await?;
        let old = self.serving();
        let generation = Generation { adapter: Some(hash), parent: Some(old.generation.id()), ..old.generation };
        Ok(self.ask_for(Serving { model: name, generation, adapter: Some(Arc::new((path, probes.clone()))) }))
    }

    /// Asks for the model that the configuration names again.
    async fn serve_base(&self) -> Result<Generation> {
        let _one = self.swapping.lock().await;
        let generation = Generation { adapter: None, parent: None, ..self.generation() };
        Ok(self.ask_for(Serving { model: self.config.model.clone(), generation, adapter: None }))
    }
}

/// A generation of which nothing but the server is known.
fn unknown(config: &RemoteModelConfig) -> Generation {
    Generation {
        base: milepost_text::hash16(format!("{}\0{}", config.url, config.model).as_bytes()),
        tokenizer: "remote".into(),
        chat_template: "remote".into(),
        prompts: config.prompts_hash.clone(),
        ..Generation::default()
    }
}
