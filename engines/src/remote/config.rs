//! Section `remote` of the configuration.

use std::path::PathBuf;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a server takes a grammar (Lark, in llguidance's dialect).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrammarField {
    /// vLLM ≥ 0.11 with `--structured-outputs-config.backend guidance`: `structured_outputs: {grammar}`.
    #[default]
    StructuredOutputs,
    /// Older vLLM with `--guided-decoding-backend guidance`: `guided_grammar`.
    GuidedGrammar,
    /// SGLang with `--grammar-backend llguidance`: `ebnf`.
    Ebnf,
    /// llama.cpp built with `LLAMA_LLGUIDANCE=ON`: `grammar` that begins with `%llguidance`; its own GBNF is another language.
    LlamaCpp,
    /// mistralrs-server: `grammar: {type: lark}`.
    Mistralrs,
    /// None: the server has no guided decoding, and an answer may be no action.
    Off,
}

/// A model behind an OpenAI-protocol server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteModelConfig {
    /// Address of the server, without `/v1`.
    pub url: String,
    /// The model's name on the server.
    pub model: String,
    /// Environment variable that holds the API key; empty sends none.
    pub api_key_env: String,
    /// How the server takes grammars.
    pub grammar: GrammarField,
    /// Ask for log-probabilities.
    pub logprobs: bool,
    /// Directory with the very weights and the tokenizer that the server serves. With it, prompts are rendered and answers read here, calls hold
    /// token ids and can be trained on, and generations are those of this base.
    pub base: Option<PathBuf>,
    /// Most tokens of prompt and completion together, where the server has less context than the base; `null` is the base's.
    pub max_seq: Option<usize>,
    /// Seconds that one request may take.
    pub timeout_seconds: u64,
    /// Hash of the prompt templates, part of the generation; set by the program.
    #[serde(skip)]
    pub prompts_hash: String,
}

impl Default for RemoteModelConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8000".into(),
            model: String::new(),
            api_key_env: String::new(),
            grammar: GrammarField::StructuredOutputs,
            logprobs: true,
            base: None,
            max_seq: None,
            timeout_seconds: 120,
            prompts_hash: String::new(),
        }
    }
}

impl RemoteModelConfig {
    /// Refuses what cannot work before the first request.
    pub(super) fn check(&self) -> Result<()> {
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return Err(Error::BadInput(format!(
                "remote.url {:?} is not http(s); give the server's address, such as http://127.0.0.1:8000",
                self.url
            )));
        }
        if self.model.is_empty() {
            return Err(Error::BadInput("remote.model is empty; give the model's name as the server lists it at /v1/models".into()));
        }
        if self.base.is_some() && !self.logprobs {
            return Err(Error::BadInput("remote.base is for training, which needs log-probabilities; set remote.logprobs: true".into()));
        }
        Ok(())
    }
}
