//! A chat request: what is read of it. Unknown fields are passed over, since clients send many.

use milepost_runtime::{Grammar, Message, Speaker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::refusal::Refusal;

/// A chat request. Fields that are not named here are passed over.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// `milepost/policy`, `milepost/policy@<generation>` or `milepost/agent`.
    pub(super) model: String,
    /// The chat so far.
    #[schema(min_items = 1)]
    pub(super) messages: Vec<ChatMessage>,
    /// Whether to answer in server-sent events.
    pub(super) stream: Option<bool>,
    /// With `stream`: what else to send.
    pub(super) stream_options: Option<StreamOptions>,
    /// Most tokens of the answer.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) max_completion_tokens: Option<usize>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) max_tokens: Option<usize>,
    /// 0 is greedy; the configuration's (`policy.temperature`) where none is given.
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub(super) temperature: Option<f32>,
    /// Seed of the sampling; the same request with the same seed is answered the same by one generation.
    #[schema(minimum = -9_007_199_254_740_991_i64, maximum = 9_007_199_254_740_991_i64)]
    pub(super) seed: Option<i64>,
    /// Texts that end the answer.
    pub(super) stop: Option<StopTexts>,
    /// Number of answers: only 1.
    #[schema(minimum = 1, maximum = 128)]
    pub(super) n: Option<u32>,
    /// The form of the answer.
    pub(super) response_format: Option<ResponseFormat>,
    /// Tools; the model is told of them in words.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(super) tools: Option<Vec<Value>>,
    /// Which tool to call: a word or a tool; the model is told in words.
    pub(super) tool_choice: Option<Value>,
    /// For `milepost/agent`: `url` is where the task begins.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Value>,
    /// For `milepost/agent`: the fields of a task (`url`, `limits`, `planner`, …); the goal is the last user message.
    #[schema(value_type = Option<Object>)]
    pub(super) milepost: Option<Value>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatMessage {
    /// Who speaks.
    role: ChatRole,
    /// What is said.
    content: Option<Content>,
    /// The calls that the model asked for.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChatRole {
    /// The instructions.
    System,
    /// The instructions, by their newer name.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A tool's result, by its older name.
    Function,
}

/// A text, or its parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    /// The text.
    Text(String),
    /// Its parts.
    Parts(Vec<Part>),
}

/// A part of a message: only `text` can be read.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Part {
    /// `text`.
    r#type: String,
    /// The text.
    text: Option<String>,
}

/// One text or some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum StopTexts {
    /// One.
    One(String),
    /// Some.
    Some(Vec<String>),
}

/// With `stream`: what else to send.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// A last chunk with the usage.
    pub(super) include_usage: Option<bool>,
}

/// The form of the answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    r#type: String,
    /// With `json_schema`: `schema` is held while the model writes.
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
}

impl ChatRequest {
    /// Refuses what cannot be done.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.n {
            Some(n) if n != 1 => Err(Refusal::field("n", "one answer is given at a time; ask again for another, with another `seed`")),
            _ => Ok(()),
        }
    }

    /// Whether a chunk with the usage is wanted.
    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    /// The texts that end the answer.
    pub(super) fn stops(&self) -> Vec<String> {
        let texts = match &self.stop {
            None => Vec::new(),
            Some(StopTexts::One(text)) => vec![text.clone()],
            Some(StopTexts::Some(texts)) => texts.clone(),
        };
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }

    /// The messages as the engine takes them; tools come as a message before them.
    pub(super) fn chat(&self) -> Result<Vec<Message>, Refusal> {
        let messages: Vec<Message> = self.messages.iter().map(ChatMessage::read).collect::<Result<_, _>>()?;
        Ok(self.tools_in_words().map(Message::system).into_iter().chain(messages).collect())
    }

    fn tools_in_words(&self) -> Option<String> {
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

    /// The last thing that the person said.
    pub(super) fn goal(&self) -> Result<String, Refusal> {
        let last = self.messages.iter().rev().find(|message| message.role == ChatRole::User);
        let text = last.map(ChatMessage::text).transpose()?.unwrap_or_default();
        match text.trim() {
            "" => Err(Refusal::field("messages", "the goal is the last user message, and there is none")),
            goal => Ok(goal.to_owned()),
        }
    }

    /// The grammar of the answer, where a form is asked for.
    pub(super) fn grammar(&self) -> Result<Option<Grammar>, Refusal> {
        let Some(format) = &self.response_format else { return Ok(None) };
        let mut schema = match format.r#type.as_str() {
            "text" => return Ok(None),
            "json_object" => json!({ "type": "object" }),
            "json_schema" => match format.json_schema.as_ref().and_then(|named| named.get("schema")) {
                Some(schema @ Value::Object(_)) => schema.clone(),
                _ => return Err(Refusal::field("response_format", "`json_schema` needs `schema`, a JSON schema")),
            },
            other => return Err(Refusal::field("response_format", format!("{other:?} is no form; use text, json_object or json_schema"))),
        };
        schema["x-guidance"] = json!({ "whitespace_flexible": false });
        Ok(Some(Grammar(format!("start: %json {schema}"))))
    }
}

impl ChatMessage {
    fn text(&self) -> Result<String, Refusal> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => {
                let read = |part: &Part| match (part.r#type.as_str(), &part.text) {
                    ("text", Some(text)) => Ok(text.clone()),
                    (other, _) => Err(Refusal::field("messages", format!("a part of type {other:?} cannot be read; only `text` can"))),
                };
                parts.iter().map(read).collect::<Result<Vec<_>, _>>().map(|texts| texts.join("\n"))
            }
        }
    }

    fn read(&self) -> Result<Message, Refusal> {
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
    fn messages_are_read_as_clients_write_them() {
        let request = read(json!({ "model": "m", "user": "somebody", "parallel_tool_calls": true,
            "tools": [{ "type": "function", "function": { "name": "weather" } }],
            "messages": [
                { "role": "developer", "content": "Be terse." },
                { "role": "user", "content": [{ "type": "text", "text": "Rain?" }, { "type": "text", "text": "In Rome." }] },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "weather", "arguments": "{}" } }] },
                { "role": "tool", "tool_call_id": "1", "content": "dry" }] }));
        let said: Vec<(Speaker, String)> = request.chat().unwrap().into_iter().map(|message| (message.role, message.content)).collect();
        assert!(said[0].1.contains(r#"{"type":"function","function":{"name":"weather"}}"#), "{}", said[0].1);
        let rest: Vec<(Speaker, &str)> = said[1..].iter().map(|(role, text)| (*role, text.as_str())).collect();
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
    fn what_cannot_be_done_is_refused_with_its_field() {
        let user = json!([{ "role": "user", "content": "hi" }]);
        let check = |extra: Value, param: &str| {
            let mut request = json!({ "model": "m", "messages": user });
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let request = read(request);
            let refused = request.check().and_then(|()| request.chat().map(drop)).and_then(|()| request.grammar().map(drop));
            assert_eq!(refused.unwrap_err().error.param, Some(param));
        };
        check(json!({ "n": 2 }), "n");
        check(json!({ "response_format": { "type": "xml" } }), "response_format");
        check(json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x" } } }), "response_format");
        check(json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), "messages");
    }
}
