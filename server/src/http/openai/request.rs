//! The chat request. Unknown fields are ignored, because clients send many.

use milepost_runtime::{Grammar, Message, Speaker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::OpenAiError;

/// A chat request. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// The model: `milepost/policy`, `milepost/policy@<generation>` or `milepost/agent`.
    pub(super) model: String,
    /// The messages of the chat so far.
    #[schema(min_items = 1)]
    pub(super) messages: Vec<ChatMessage>,
    /// Whether to send the answer as server-sent events.
    pub(super) stream: Option<bool>,
    /// Options for `stream`.
    pub(super) stream_options: Option<StreamOptions>,
    /// The maximum number of completion tokens.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) max_completion_tokens: Option<usize>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) max_tokens: Option<usize>,
    /// The sampling temperature, where 0 is greedy; the configuration's (`policy.temperature`) by default.
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub(super) temperature: Option<f32>,
    /// Seed of the sampling. A generation answers the same request with the same seed identically.
    #[schema(minimum = -9_007_199_254_740_991_i64, maximum = 9_007_199_254_740_991_i64)]
    pub(super) seed: Option<i64>,
    /// Texts that end the answer.
    pub(super) stop: Option<StopTexts>,
    /// The number of answers; only 1 is supported.
    #[schema(minimum = 1, maximum = 128)]
    pub(super) n: Option<u32>,
    /// The format of the answer.
    pub(super) response_format: Option<ResponseFormat>,
    /// The tools that the model may call; a message describes them to the model.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(super) tools: Option<Vec<Value>>,
    /// Which tool to call: `none`, `auto` or a choice that a message describes to the model.
    pub(super) tool_choice: Option<Value>,
    /// For `milepost/agent`: `url` is the address of the task's first page.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Value>,
    /// For `milepost/agent`: the fields of a task (`url`, `limits`, `planner`, …); the goal is the last user message.
    #[schema(value_type = Option<Object>)]
    pub(super) milepost: Option<Value>,
}

/// A message of the chat.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatMessage {
    /// The author of the message.
    role: ChatRole,
    /// The content of the message.
    content: Option<Content>,
    /// The tool calls that the model made in this message.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChatRole {
    /// The instructions to the model.
    System,
    /// The instructions to the model, by their newer name.
    Developer,
    /// The person who uses the model.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A tool's result, by its older name.
    Function,
}

/// The content of a message: a text, or its parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    /// The text.
    Text(String),
    /// The parts of the content.
    Parts(Vec<Part>),
}

/// A part of a message; only parts of type `text` are supported.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Part {
    /// The type of the part, which must be `text`.
    r#type: String,
    /// The text.
    text: Option<String>,
}

/// The texts that end the answer: one text, or a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum StopTexts {
    /// One text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

/// Options for `stream`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last chunk carries the usage.
    pub(super) include_usage: Option<bool>,
}

/// The format of the answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ResponseFormat {
    /// The type of the format: `text`, `json_object` or `json_schema`.
    r#type: String,
    /// For `json_schema`: the answer is constrained to the JSON schema in its field `schema`.
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
}

impl ChatRequest {
    /// Checks that the request asks for one answer.
    pub(super) fn check_supported(&self) -> Result<(), OpenAiError> {
        match self.n {
            Some(n) if n != 1 => Err(OpenAiError::field("n", "one answer is given at a time; ask again for another, with another `seed`")),
            _ => Ok(()),
        }
    }

    /// Returns true if the stream should carry a chunk with the usage.
    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    /// Returns the texts that end the answer.
    pub(super) fn stop_texts(&self) -> Vec<String> {
        let texts = match &self.stop {
            None => Vec::new(),
            Some(StopTexts::One(text)) => vec![text.clone()],
            Some(StopTexts::Many(texts)) => texts.clone(),
        };
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }

    /// Returns the messages for the engine. A system message before them describes the tools.
    pub(super) fn engine_messages(&self) -> Result<Vec<Message>, OpenAiError> {
        let messages: Vec<Message> = self.messages.iter().map(ChatMessage::to_engine_message).collect::<Result<_, _>>()?;
        Ok(self.tools_text().map(Message::system).into_iter().chain(messages).collect())
    }

    /// Describes the tools and the choice among them for the model; returns `None` without tools or if none may be called.
    fn tools_text(&self) -> Option<String> {
        let tools = self.tools.as_deref().filter(|tools| !tools.is_empty())?;
        let choice = match &self.tool_choice {
            Some(Value::String(word)) if word == "none" => return None,
            Some(Value::String(word)) if word == "auto" => String::new(),
            Some(choice) => format!("\ntool_choice: {choice}"),
            None => String::new(),
        };
        let list: Vec<String> = tools.iter().map(Value::to_string).collect();
        Some(format!("These tools can be called by an answer in JSON with `name` and `arguments`:\n{}{choice}", list.join("\n")))
    }

    /// Returns the goal of a web task: the last user message.
    pub(super) fn goal(&self) -> Result<String, OpenAiError> {
        let last = self.messages.iter().rev().find(|message| message.role == ChatRole::User);
        let text = last.map(ChatMessage::text).transpose()?.unwrap_or_default();
        match text.trim() {
            "" => Err(OpenAiError::field("messages", "the goal is the last user message, and there is none")),
            goal => Ok(goal.to_owned()),
        }
    }

    /// Returns the grammar of the answer, if its format is constrained.
    pub(super) fn grammar(&self) -> Result<Option<Grammar>, OpenAiError> {
        let Some(format) = &self.response_format else { return Ok(None) };
        let mut schema = match format.r#type.as_str() {
            "text" => return Ok(None),
            "json_object" => json!({ "type": "object" }),
            "json_schema" => match format.json_schema.as_ref().and_then(|named| named.get("schema")) {
                Some(schema @ Value::Object(_)) => schema.clone(),
                _ => return Err(OpenAiError::field("response_format", "`json_schema` needs `schema`, a JSON schema")),
            },
            other => {
                return Err(OpenAiError::field("response_format", format!("{other:?} is no form; use text, json_object or json_schema")));
            }
        };
        schema["x-guidance"] = json!({ "whitespace_flexible": false });
        Ok(Some(Grammar(format!("start: %json {schema}"))))
    }
}

impl ChatMessage {
    /// Returns the text of the message: its content, or the texts of the parts in lines.
    fn text(&self) -> Result<String, OpenAiError> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => {
                let read = |part: &Part| match (part.r#type.as_str(), &part.text) {
                    ("text", Some(text)) => Ok(text.clone()),
                    (other, _) => Err(OpenAiError::field("messages", format!("a part of type {other:?} cannot be read; only `text` can"))),
                };
                parts.iter().map(read).collect::<Result<Vec<_>, _>>().map(|texts| texts.join("\n"))
            }
        }
    }

    /// Returns the message for the engine. Tool calls are appended as lines of JSON.
    fn to_engine_message(&self) -> Result<Message, OpenAiError> {
        let mut content = self.text()?;
        for call in self.tool_calls.iter().flatten() {
            let line = call.get("function").unwrap_or(call).to_string();
            content = if content.is_empty() { line } else { format!("{content}\n{line}") };
        }
        Ok(match self.role {
            ChatRole::System | ChatRole::Developer => Message::system(content),
            ChatRole::User => Message::user(content),
            ChatRole::Assistant => Message { role: Speaker::Assistant, content },
            ChatRole::Tool | ChatRole::Function => Message::user(format!("Tool result: {content}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: Value) -> ChatRequest {
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn messages_of_all_forms_are_turned_into_engine_messages() {
        let request = read(json!({ "model": "m", "user": "somebody", "parallel_tool_calls": true,
            "tools": [{ "type": "function", "function": { "name": "weather" } }],
            "messages": [
                { "role": "developer", "content": "Be terse." },
                { "role": "user", "content": [{ "type": "text", "text": "Rain?" }, { "type": "text", "text": "In Rome." }] },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "weather", "arguments": "{}" } }] },
                { "role": "tool", "tool_call_id": "1", "content": "dry" }] }));
        let messages: Vec<(Speaker, String)> =
            request.engine_messages().unwrap().into_iter().map(|message| (message.role, message.content)).collect();
        assert!(messages[0].1.contains(r#"{"type":"function","function":{"name":"weather"}}"#), "{}", messages[0].1);
        let rest: Vec<(Speaker, &str)> = messages[1..].iter().map(|(role, text)| (*role, text.as_str())).collect();
        let expected = [
            (Speaker::System, "Be terse."),
            (Speaker::User, "Rain?\nIn Rome."),
            (Speaker::Assistant, r#"{"name":"weather","arguments":"{}"}"#),
            (Speaker::User, "Tool result: dry"),
        ];
        assert_eq!(rest, expected);
        assert_eq!(request.goal().unwrap(), "Rain?\nIn Rome.");
    }

    #[test]
    fn unsupported_fields_are_refused_by_name() {
        let user = json!([{ "role": "user", "content": "hi" }]);
        let check = |extra: Value, param: &str| {
            let mut request = json!({ "model": "m", "messages": user });
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let request = read(request);
            let refused =
                request.check_supported().and_then(|()| request.engine_messages().map(drop)).and_then(|()| request.grammar().map(drop));
            assert_eq!(refused.unwrap_err().error.param, Some(param));
        };
        check(json!({ "n": 2 }), "n");
        check(json!({ "response_format": { "type": "xml" } }), "response_format");
        check(json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x" } } }), "response_format");
        check(json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), "messages");
    }
}
