//! What is answered: a completion as a whole, or in chunks.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::refusal::Refusal;

const ALIVE: Duration = Duration::from_secs(15);

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Usage {
    /// Read.
    pub(super) prompt_tokens: u64,
    /// Written.
    pub(super) completion_tokens: u64,
    /// Both.
    pub(super) total_tokens: u64,
}

impl Usage {
    /// A usage of so many tokens read and written.
    pub(super) fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Finish {
    /// The model was done, or a stop text came.
    Stop,
    /// It ran into a limit.
    Length,
}

/// What the answers of one request share.
#[derive(Clone, Debug)]
pub(super) struct Head {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
}

impl Head {
    /// The head of an answer by this model and generation.
    pub(super) fn new(model: String, generation: &str) -> Self {
        let id = format!("chatcmpl-{}", uuid::Uuid::now_v7().simple());
        Self { id, created: chrono::Utc::now().timestamp(), model, fingerprint: generation.to_owned() }
    }

    fn chunk(&self, choices: Value, usage: Option<Usage>) -> Value {
        let mut chunk = json!({ "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices });
        if let Some(usage) = usage {
            chunk["usage"] = json!(usage);
        }
        chunk
    }

    /// The chunk that opens the answer.
    pub(super) fn opening(&self) -> Value {
        self.chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }]), None)
    }

    /// A chunk with a piece of text.
    pub(super) fn piece(&self, text: &str) -> Value {
        self.chunk(json!([{ "index": 0, "delta": { "content": text }, "finish_reason": null }]), None)
    }

    /// The chunk that ends the answer.
    pub(super) fn ending(&self, finish: Finish) -> Value {
        self.chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), None)
    }

    /// The chunk after the end that tells the usage.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        self.chunk(json!([]), Some(usage))
    }

    /// The answer as a whole.
    pub(super) fn whole(self, content: String, finish: Finish, usage: Usage) -> Completion {
        let choice = Choice { index: 0, message: Said { role: "assistant", content }, finish_reason: finish };
        Completion {
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            system_fingerprint: self.fingerprint,
            choices: vec![choice],
            usage,
            milepost: None,
        }
    }
}

/// A completion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    /// Unique id.
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// When it was made, in seconds since 1970.
    created: i64,
    /// The model that answered, with its generation.
    model: String,
    /// The generation.
    system_fingerprint: String,
    /// The answer.
    choices: Vec<Choice>,
    /// Tokens.
    usage: Usage,
    /// Of `milepost/agent`: the task that was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) milepost: Option<Ran>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Choice {
    /// 0.
    index: u32,
    /// What was said.
    message: Said,
    /// Why it ends.
    finish_reason: Finish,
}

/// What was said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Said {
    /// `assistant`.
    role: &'static str,
    /// The text.
    content: String,
}

/// The task behind an answer of the agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Ran {
    /// The task's id.
    pub(super) task: String,
    /// Where it stands.
    pub(super) state: &'static str,
    /// Why it ended, in a word.
    pub(super) stop: Option<String>,
    /// Verified outcome; null where nobody verified it.
    pub(super) success: Option<bool>,
    /// The output that `output_schema` asked for.
    pub(super) output: Option<Value>,
}

/// Sends chunks as server-sent events; `[DONE]` follows the last one, unless it is an error.
pub(super) fn chunks(stream: impl Stream<Item = Result<Value, Refusal>> + Send + 'static) -> Response {
    let told = stream.map(Some).chain(futures_util::stream::once(std::future::ready(None))).scan(false, |failed, item| {
        let data = match item {
            _ if *failed => return std::future::ready(None),
            Some(Ok(chunk)) => chunk.to_string(),
            Some(Err(refusal)) => {
                *failed = true;
                json!(refusal).to_string()
            }
            None => "[DONE]".to_owned(),
        };
        std::future::ready(Some(Ok::<_, Infallible>(Event::default().data(data))))
    });
    Sse::new(told).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}
