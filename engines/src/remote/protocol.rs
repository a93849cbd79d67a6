//! The bodies of requests and responses; there is no I/O here.

use std::collections::BTreeMap;

use milepost_runtime::{Error, GenerateRequest, Grammar, Message, Result, ScoreRequest, Speaker};
use serde_json::{Value, json};

use super::config::{GrammarField, RemoteModelConfig};
use crate::failed;

/// A completion in a server's response.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Completion {
    pub(super) text: String,
    /// The log-probability of each token in nats; empty if the server gives none.
    pub(super) logprobs: Vec<f32>,
    /// The length in bytes of the text up to and including each token; empty if the server gives no tokens.
    pub(super) ends: Vec<usize>,
}

/// Builds the body of a request for a chat completion.
pub(super) fn chat_body(config: &RemoteModelConfig, model: &str, request: &GenerateRequest) -> Result<Value> {
    let messages: Vec<Value> = request.messages.iter().map(message).collect();
    let mut body = json!({
        "model": model, "messages": messages, "temperature": request.temperature, "max_tokens": request.max_tokens,
        "seed": clear_sign_bit(request.seed), "n": 1, "stream": false,
    });
    if config.logprobs {
        body["logprobs"] = true.into();
    }
    if let Some(grammar) = &request.grammar {
        add_grammar(&mut body, config.grammar, grammar);
    }
    Ok(body)
}

/// Converts a message to the protocol's JSON.
fn message(message: &Message) -> Value {
    let role = match message.role {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    json!({ "role": role, "content": message.content })
}

/// Adds the grammar in the field that the server takes.
fn add_grammar(body: &mut Value, field: GrammarField, grammar: &Grammar) {
    let lark = grammar.0.as_str();
    match field {
        GrammarField::StructuredOutputs => body["structured_outputs"] = json!({ "grammar": lark }),
        GrammarField::GuidedGrammar => body["guided_grammar"] = lark.into(),
        GrammarField::Ebnf => body["ebnf"] = lark.into(),
        GrammarField::LlamaCpp => body["grammar"] = format!("%llguidance {{}}\n{lark}").into(),
        GrammarField::Mistralrs => body["grammar"] = json!({ "type": "lark", "value": lark }),
        GrammarField::Off => {}
    }
}

/// Builds the body of a request for a completion of token ids. It sets every sampling setting except the temperature to its neutral value,
/// since a server otherwise takes those of the model's `generation_config.json`.
fn token_completion_body(model: &str, prompt_ids: &[u32], temperature: f32, max_tokens: usize, seed: u64, logprobs: usize) -> Value {
    json!({
        "model": model, "prompt": prompt_ids, "temperature": temperature, "max_tokens": max_tokens, "top_p": 1.0, "top_k": -1, "min_p": 0.0,
        "repetition_penalty": 1.0, "seed": clear_sign_bit(seed), "n": 1, "stream": false, "logprobs": logprobs, "return_token_ids": true,
    })
}

/// Clears the sign bit of a seed, because servers keep seeds in a signed 64-bit number.
fn clear_sign_bit(seed: u64) -> u64 {
    seed & i64::MAX as u64
}

/// Builds the body of a request for a completion of token ids under the request's grammar.
pub(super) fn completion_body(
    config: &RemoteModelConfig,
    model: &str,
    request: &GenerateRequest,
    prompt_ids: &[u32],
    max_tokens: usize,
) -> Value {
    let mut body = token_completion_body(model, prompt_ids, request.temperature, max_tokens, request.seed, 1);
    if let Some(grammar) = &request.grammar {
        add_grammar(&mut body, config.grammar, grammar);
    }
    body
}

/// Builds the body of a request for one token and the likeliest tokens in its place.
pub(super) fn top_logprobs_body(model: &str, prompt_ids: &[u32], temperature: f32) -> Value {
    token_completion_body(model, prompt_ids, temperature, 1, 0, 5)
}

/// Returns whether the server's error says that there is no such model (vLLM: 404, "The model `NAME` does not exist.").
pub(super) fn says_unknown_model(error: &Error, model: &str) -> bool {
    let text = error.to_string();
    text.contains("answered 404") && text.contains(model)
}

/// Reads the likeliest first tokens with their log-probabilities.
pub(super) fn top_logprobs(answer: &Value) -> BTreeMap<String, f32> {
    let first = answer["choices"][0]["logprobs"]["top_logprobs"][0].as_object().into_iter().flatten();
    first.filter_map(|(token, logprob)| Some((token.clone(), logprob.as_f64()? as f32))).collect()
}

/// Reads token ids and their log-probabilities.
pub(super) fn completion_tokens(answer: &Value, url: &str) -> Result<(Vec<u32>, Vec<f32>)> {
    let choice = &answer["choices"][0];
    let Some(ids) = choice["token_ids"].as_array() else {
        let fix = "serve with vLLM 0.11 or later, or leave `remote.base` out and do not train";
        return Err(failed(format!("{url} gives no token ids (`return_token_ids`); {fix}: {}", shorten(answer))));
    };
    let ids: Vec<u32> = ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect();
    let logprobs = choice["logprobs"]["token_logprobs"].as_array().into_iter().flatten();
    let logprobs: Vec<f32> = logprobs.filter_map(Value::as_f64).map(|logprob| logprob as f32).collect();
    if ids.len() != logprobs.len() {
        return Err(failed(format!("{url} gives {} tokens and {} log-probabilities: {}", ids.len(), logprobs.len(), shorten(answer))));
    }
    Ok((ids, logprobs))
}

/// Reads a chat completion.
pub(super) fn chat_completion(answer: &Value) -> Result<Completion> {
    let choice = &answer["choices"][0];
    let text =
        choice["message"]["content"].as_str().ok_or_else(|| failed(format!("the server's answer has no text: {}", shorten(answer))))?;
    let mut completion = Completion { text: text.to_owned(), ..Completion::default() };
    let mut end = 0;
    for token in choice["logprobs"]["content"].as_array().into_iter().flatten() {
        let Some(logprob) = token["logprob"].as_f64() else { continue };
        end += token["bytes"].as_array().map(Vec::len).or_else(|| token["token"].as_str().map(str::len)).unwrap_or(0);
        completion.logprobs.push(logprob as f32);
        completion.ends.push(end.min(text.len()));
    }
    Ok(completion)
}

/// Reads vLLM's `prompt_logprobs`: for each position an object from token ids to their log-probabilities (null at the first position).
/// Returns `None` if the server gives none.
pub(super) fn prompt_logprobs(answer: &Value, request: &ScoreRequest) -> Result<Option<Vec<f32>>> {
    let Some(positions) = answer["choices"][0]["prompt_logprobs"].as_array().or(answer["prompt_logprobs"].as_array()) else {
        return Ok(None);
    };
    let one = |(index, token): (usize, &u32)| {
        let position = request.prompt_ids.len() + index;
        let logprob = positions.get(position).and_then(|entry| entry[token.to_string()]["logprob"].as_f64());
        logprob
            .map(|logprob| logprob as f32)
            .ok_or_else(|| failed(format!("the server gives no log-probability for token {token} at position {position}")))
    };
    request.completion_ids.iter().enumerate().map(one).collect::<Result<Vec<f32>>>().map(Some)
}

/// Returns the beginning of a response, for an error message.
pub(super) fn shorten(answer: &Value) -> String {
    answer.to_string().chars().take(300).collect()
}
