//! Model calls as they are recorded: token ids, grammar, log-probabilities, and the generation that made them.

use serde::{Deserialize, Serialize};

use crate::grammar::Grammar;

/// What a call was for.
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
    /// The role's word.
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

/// Who speaks a message.
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
    /// Who speaks.
    pub role: Speaker,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Speaker::System, content: content.into() }
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Speaker::User, content: content.into() }
    }
}

/// A run of completion tokens that belongs to one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Whose tokens they are.
    pub role: Role,
    /// First token (index into `completion_ids`).
    pub start: usize,
    /// One past the last token.
    pub end: usize,
}

/// Hashes of everything that makes a model's answers: a mismatch on load is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Base weights.
    pub base: String,
    /// Tokenizer.
    pub tokenizer: String,
    /// Chat template.
    pub chat_template: String,
    /// Prompt templates.
    pub prompts: String,
    /// Adapter, where one is merged.
    pub adapter: Option<String>,
    /// Id of the generation this one was trained from.
    pub parent: Option<String>,
}

impl Generation {
    /// Hash of the base weights alone, without the number type they are served in (`-q4k` and the like).
    pub fn weights(&self) -> &str {
        self.base.split('-').next().unwrap_or_default()
    }

    /// Short id: 12 hex digits over all hashes.
    pub fn id(&self) -> String {
        use sha2::{Digest, Sha256};
        let text =
            format!("{}|{}|{}|{}|{}", self.base, self.tokenizer, self.chat_template, self.prompts, self.adapter.as_deref().unwrap_or(""));
        Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One model call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// What it was for.
    pub role: Role,
    /// Prompt token ids.
    pub prompt_ids: Vec<u32>,
    /// Completion token ids, the end token included where it was sampled.
    pub completion_ids: Vec<u32>,
    /// Whose tokens are whose; those that only bring a grammar's sentence to its end, where the call ran out of tokens, are nobody's.
    pub spans: Vec<Span>,
    /// The grammar that masked the sampling.
    pub grammar: Option<Grammar>,
    /// Log-probability of each completion token under the sampled (masked, tempered) distribution; nats.
    pub logprobs: Vec<f32>,
    /// The same without the mask; diagnostic only.
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
