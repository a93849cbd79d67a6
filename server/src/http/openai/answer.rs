//! Chat completions, whole or as chunks of a stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::OpenAiError;

/// The time without chunks after which a comment is sent to keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The number of tokens that the model read and wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Usage {
    /// The number of tokens read.
    pub(super) prompt_tokens: u64,
    /// The number of tokens written.
    pub(super) completion_tokens: u64,
    /// The number of tokens read and written.
    pub(super) total_tokens: u64,
}

impl Usage {
    /// Makes a usage; the total is computed.
    pub(super) fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// The reason why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Finish)]
#[serde(rename_all = "lowercase")]
pub(super) enum FinishReason {
    /// The model ended its answer, or wrote a stop text.
    Stop,
    /// The answer reached a limit.
    Length,
}

/// Builds the completion of one request, or the chunks of its stream, which all carry the same id, time and model.
#[derive(Clone, Debug)]
pub(super) struct CompletionBuilder {
    id: String,
    /// When this builder was made, as a Unix time in seconds.
    created: i64,
    model: String,
    /// The generation that answers.
    fingerprint: String,
}

impl CompletionBuilder {
    /// Makes a builder for an answer by this model and generation.
    pub(super) fn new(model: String, generation: &str) -> Self {
        let id = format!("chatcmpl-{}", uuid::Uuid::now_v7().simple());
        Self { id, created: chrono::Utc::now().timestamp(), model, fingerprint: generation.to_owned() }
    }

    /// Returns a chunk with these choices.
    fn chunk(&self, choices: Value, usage: Option<Usage>) -> Value {
        let mut chunk = json!({ "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices });
        if let Some(usage) = usage {
            chunk["usage"] = json!(usage);
        }
        chunk
    }

    /// Returns the first chunk, with the role.
    pub(super) fn role_chunk(&self) -> Value {
        self.chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }]), None)
    }

    /// Returns a chunk with a part of the text.
    pub(super) fn text_chunk(&self, text: &str) -> Value {
        self.chunk(json!([{ "index": 0, "delta": { "content": text }, "finish_reason": null }]), None)
    }

    /// Returns the chunk that ends the answer.
    pub(super) fn finish_chunk(&self, finish: FinishReason) -> Value {
        self.chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), None)
    }

    /// Returns the chunk with the usage, which follows the one that ends the answer.
    pub(super) fn usage_chunk(&self, usage: Usage) -> Value {
        self.chunk(json!([]), Some(usage))
    }

    /// Returns the whole completion.
    pub(super) fn completion(self, content: String, finish: FinishReason, usage: Usage) -> Completion {
        let choice = Choice { index: 0, message: AnswerMessage { role: "assistant", content }, finish_reason: finish };
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

/// A chat completion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    /// Unique id.
    id: String,
    /// Always `chat.completion`.
    object: &'static str,
    /// When the completion was made, as a Unix time in seconds.
    created: i64,
    /// The model that answered, with its generation.
    model: String,
    /// The generation that answered.
    system_fingerprint: String,
    /// The answers; there is always exactly one.
    choices: Vec<Choice>,
    /// The number of tokens that the model read and wrote.
    usage: Usage,
    /// The task that was run; only in answers of `milepost/agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) milepost: Option<TaskOutcome>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Choice {
    /// The index of the answer, always 0.
    index: u32,
    /// The message.
    message: AnswerMessage,
    /// The reason why the answer ends.
    finish_reason: FinishReason,
}

/// The message of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Said)]
pub(super) struct AnswerMessage {
    /// Always `assistant`.
    role: &'static str,
    /// The text.
    content: String,
}

/// The task of an answer of the agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Ran)]
pub(super) struct TaskOutcome {
    /// The task's id.
    pub(super) task: String,
    /// The task's state.
    pub(super) state: &'static str,
    /// Why the task ended, in one word.
    pub(super) stop: Option<String>,
    /// Verified outcome; null if it was not verified.
    pub(super) success: Option<bool>,
    /// The output that the task's `output_schema` describes.
    pub(super) output: Option<Value>,
}

/// Returns a response that streams the chunks as server-sent events. The stream ends after an error, or else with `[DONE]`.
pub(super) fn stream_response(stream: impl Stream<Item = Result<Value, OpenAiError>> + Send + 'static) -> Response {
    let events = stream.map(Some).chain(futures_util::stream::once(std::future::ready(None))).scan(false, |failed, item| {
        let data = match item {
            _ if *failed => return std::future::ready(None),
            Some(Ok(chunk)) => chunk.to_string(),
            Some(Err(error)) => {
                *failed = true;
                json!(error).to_string()
            }
            None => "[DONE]".to_owned(),
        };
        std::future::ready(Some(Ok::<_, Infallible>(Event::default().data(data))))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
