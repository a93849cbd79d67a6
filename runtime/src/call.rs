//! Model calls as they are recorded: token ids, grammar, log-probabilities, and the generation that made them.

use serde::{Deserialize, Serialize};

use crate::grammar::Grammar;

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes or revises the plan.
    Planner,
    /// Chooses the action (its revision span, if any, is the planner's).
    Executor,
    /// Writes the answer.
    Summarizer,
    /// Decides a milestone without a check.
    Verifier,
    /// Judges an episode.
    Judge,
}

impl Role {
    /// Returns the role's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Executor => "executor",
            Self::Summarizer => "summarizer",
            Self::Verifier => "verifier",
            Self::Judge => "judge",
        }
    }
}

/// The author of a message in the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The instructions.
    System,
    /// The task and the page.
    User,
    /// The model.
    Assistant,
}

/// One chat message; the engine renders them with the model's chat template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Speaker,
    /// The text.
    pub content: String,
}

impl Message {
    /// Makes a system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Speaker::System, content: content.into() }
    }

    /// Makes a user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Speaker::User, content: content.into() }
    }
}

/// A run of completion tokens that belongs to one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The role that the tokens belong to.
    pub role: Role,
    /// Index of the first token in `completion_ids`.
    pub start: usize,
    /// Index one past the last token.
    pub end: usize,
}

/// Hashes of everything that a model's answers depend on; a mismatch on load is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Hash of the base weights.
    pub base: String,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Hash of the chat template.
    pub chat_template: String,
    /// Hash of the prompt templates.
    pub prompts: String,
    /// Hash of the adapter, if the model has one.
    pub adapter: Option<String>,
    /// Id of the generation this one was trained from.
    pub parent: Option<String>,
    /// The base that the id is computed from, where that is not `base`. A generation that was registered while the base of a hub id was the
    /// hash of its name keeps the id that it had then (see [`crate::registry`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_base: Option<String>,
}

impl Generation {
    /// Returns the hash of the base weights without the number type in which they are served (`-q4k` and the like).
    pub fn weights(&self) -> &str {
        self.base.split('-').next().unwrap_or_default()
    }

    /// Returns a short id: 12 hex digits over all hashes.
    pub fn id(&self) -> String {
        use sha2::{Digest, Sha256};
        let base = self.registered_base.as_ref().unwrap_or(&self.base);
        let text = format!("{base}|{}|{}|{}|{}", self.tokenizer, self.chat_template, self.prompts, self.adapter.as_deref().unwrap_or(""));
        Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the generation of the base model alone, without adapter and parent.
    pub fn base_model(&self) -> Self {
        Self { adapter: None, parent: None, registered_base: None, ..self.clone() }
    }

    /// Returns whether both have the same hashes, so that they give the same answers. Their parents may differ, and so may their ids where
    /// one of them has a `registered_base`.
    pub fn has_hashes_of(&self, other: &Self) -> bool {
        let identity = |one: &Self| Self { parent: None, registered_base: None, ..one.clone() };
        identity(self) == identity(other)
    }
}

/// One model call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The purpose of the call.
    pub role: Role,
    /// Prompt token ids.
    pub prompt_ids: Vec<u32>,
    /// Completion token ids, the end token included where it was sampled.
    pub completion_ids: Vec<u32>,
    /// The role of each run of completion tokens. Tokens that only complete the grammar's sentence after the call ran out of tokens belong
    /// to no role.
    pub spans: Vec<Span>,
    /// The grammar that masked the sampling.
    pub grammar: Option<Grammar>,
    /// Log-probability of each completion token under the sampled (masked, tempered) distribution; nats.
    pub logprobs: Vec<f32>,
    /// Log-probability of each completion token without the mask; diagnostic only.
    pub free_logprobs: Vec<f32>,
    /// Sampling temperature (0: greedy; then `logprobs` are of the masked distribution at temperature 1).
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Id of the generation that answered.
    pub generation: String,
    /// Wall time in milliseconds.
    pub latency_ms: f64,
}
