//! Section `remote` of the configuration: a model behind a server.

use std::path::PathBuf;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};

/// The field of a request in which a server takes a grammar (Lark, in llguidance's dialect).
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
    /// llama.cpp built with `LLAMA_LLGUIDANCE=ON`: `grammar`, which begins with `%llguidance`; llama.cpp's own GBNF is another language.
    LlamaCpp,
    /// mistralrs-server: `grammar: {type: lark}`.
    Mistralrs,
    /// None: the server has no guided decoding, so a completion may not be a valid action.
    Off,
}

/// The settings of a model behind an OpenAI-protocol server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteModelConfig {
    /// The address of the server, without `/v1`.
    pub url: String,
    /// The model's name on the server.
    pub model: String,
    /// The environment variable that holds the API key; if empty, no key is sent.
    pub api_key_env: String,
    /// The field in which the server takes grammars.
    pub grammar: GrammarField,
    /// Whether log-probabilities are requested.
    pub logprobs: bool,
    /// The directory of the same weights and tokenizer that the server serves. With it, prompts are encoded and completions decoded here,
    /// calls hold token ids and can be trained on, and generations are those of this base.
    pub base: Option<PathBuf>,
    /// The maximum number of tokens of prompt and completion together, if the server's is lower than the base's; `null` takes the base's.
    pub max_seq: Option<usize>,
    /// The timeout of one request in seconds.
    pub timeout_seconds: u64,
    /// The hash of the prompt templates, which is part of the generation; set by the program.
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
    /// Refuses settings that cannot work, before the first request.
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
