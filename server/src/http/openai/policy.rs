//! The local policy as a chat model: it answers the caller's messages. It sees no page, and its only grammar is that of the requested
//! format.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use milepost_runtime::{Error, GenerateRequest, Generated, Role};

use super::answer::{CompletionBuilder, FinishReason, Usage, stream_response};
use super::error::OpenAiError;
use super::models::policy_name;
use super::request::ChatRequest;
use crate::http::state::App;

/// The text of an answer: the generated text up to the first stop text.
struct AnswerText {
    generated: Generated,
    /// Length of the answer in bytes of the generated text.
    end: usize,
    finish: FinishReason,
}

impl AnswerText {
    /// Cuts the generated text at the first of the stop texts. `max_tokens` and `reports_end_token` are needed for [`finish_reason`].
    fn new(generated: Generated, stop_texts: &[String], max_tokens: usize, reports_end_token: bool) -> Self {
        let cut = stop_texts.iter().filter_map(|stop| generated.text.find(stop.as_str())).min();
        let finish = match cut {
            Some(_) => FinishReason::Stop,
            None => finish_reason(&generated, max_tokens, reports_end_token),
        };
        Self { end: cut.unwrap_or(generated.text.len()), finish, generated }
    }

    /// Returns the answer.
    fn text(&self) -> &str {
        self.generated.text.get(..self.end).unwrap_or_default()
    }

    /// Returns the answer token by token. A character of several tokens comes with the last of them.
    fn pieces(&self) -> Vec<String> {
        let text = self.text();
        let mut start = 0;
        let ends = self.generated.ends.iter().map(|end| (*end).min(text.len())).chain([text.len()]);
        let mut pieces = Vec::new();
        for end in ends {
            if let Some(piece) = text.get(start..end).filter(|piece| !piece.is_empty()) {
                pieces.push(piece.to_owned());
                start = end;
            }
        }
        pieces
    }

    /// Returns the number of tokens read and written, including those after the first stop text.
    fn usage(&self) -> Usage {
        let call = &self.generated.call;
        Usage::new(call.prompt_ids.len() as u64, call.completion_ids.len().max(self.generated.ends.len()) as u64)
    }
}

/// Returns why the generation ended. A completion that ends with the end token, which adds no text, is finished. A server does not report that
/// token (`reports_end_token` is false); there, a completion with fewer than `max_tokens` tokens is finished.
fn finish_reason(generated: &Generated, max_tokens: usize, reports_end_token: bool) -> FinishReason {
    let ends = &generated.ends;
    let ended = match ends.as_slice() {
        [] => true,
        [only] => *only == 0,
        [.., before, last] => before == last,
    };
    match ended || (!reports_end_token && ends.len() < max_tokens) {
        true => FinishReason::Stop,
        false => FinishReason::Length,
    }
}

/// Answers the messages with the model's text. If the caller disconnects, this future is dropped, which ends the generation.
pub(super) async fn answer(app: &App, request: ChatRequest, generation: Option<String>) -> Result<Response, OpenAiError> {
    let max_tokens = request.max_completion_tokens.or(request.max_tokens).unwrap_or(app.settings.chat.max_tokens);
    let grammar = request.grammar()?;
    let constrained = grammar.is_some();
    if constrained && !app.settings.chat.grammar {
        return Err(OpenAiError::field("response_format", "the model cannot be held to a form: `remote.grammar` is off"));
    }
    let generate = GenerateRequest {
        role: Role::Executor,
        messages: request.engine_messages()?,
        grammar,
        temperature: request.temperature.unwrap_or(app.settings.chat.temperature),
        seed: request.seed.map_or_else(rand::random, i64::cast_unsigned),
        max_tokens,
    };
    let generated = app.deployment.engine.generate(generate).await.map_err(|error| engine_error(error, constrained))?;
    let served = generated.call.generation.clone();
    if let Some(requested) = generation.filter(|requested| *requested != served) {
        return Err(OpenAiError::no_model(format!(
            "{} went out of service meanwhile; {} serves",
            policy_name(&requested),
            policy_name(&served)
        )));
    }
    let builder = CompletionBuilder::new(policy_name(&served), &served);
    let answer = AnswerText::new(generated, &request.stop_texts(), max_tokens, app.settings.chat.reports_end_token);
    if request.stream != Some(true) {
        return Ok(Json(builder.completion(answer.text().to_owned(), answer.finish, answer.usage())).into_response());
    }
    let mut chunks = vec![builder.role_chunk()];
    chunks.extend(answer.pieces().iter().map(|piece| builder.text_chunk(piece)));
    chunks.push(builder.finish_chunk(answer.finish));
    if request.wants_usage() {
        chunks.push(builder.usage_chunk(answer.usage()));
    }
    Ok(stream_response(stream::iter(chunks.into_iter().map(Ok))))
}

/// Turns an engine's error into a response. For a constrained answer, a grammar that does not compile is the fault of the caller's schema.
fn engine_error(error: Error, constrained: bool) -> OpenAiError {
    match error {
        Error::Engine(reason) if constrained && reason.contains("does not compile") => {
            OpenAiError::field("response_format", format!("the model cannot be held to this form: {reason}"))
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use milepost_runtime::Call;

    use super::*;

    fn answer_text(text: &str, ends: &[usize], stop_texts: &[&str]) -> AnswerText {
        let call = Call {
            role: Role::Executor,
            prompt_ids: vec![1, 2, 3],
            completion_ids: vec![0; ends.len()],
            spans: Vec::new(),
            grammar: None,
            logprobs: Vec::new(),
            free_logprobs: Vec::new(),
            temperature: 0.0,
            seed: 0,
            generation: "g".into(),
            latency_ms: 0.0,
        };
        let stop_texts: Vec<String> = stop_texts.iter().map(|stop| (*stop).to_owned()).collect();
        AnswerText::new(Generated { text: text.into(), call, ends: ends.to_vec() }, &stop_texts, 8, true)
    }

    #[test]
    fn an_answer_is_split_by_tokens_and_ends_at_a_stop_text() {
        let check = |text: &str, ends: &[usize], stop_texts: &[&str], pieces: &[&str], finish: FinishReason| {
            let answer = answer_text(text, ends, stop_texts);
            assert_eq!(answer.pieces(), pieces);
            assert_eq!(answer.pieces().concat(), answer.text());
            assert_eq!(answer.finish, finish);
            assert_eq!(answer.usage(), Usage::new(3, ends.len() as u64));
        };
        check("go home", &[2, 7, 7], &[], &["go", " home"], FinishReason::Stop);
        check("go home", &[2, 7], &[], &["go", " home"], FinishReason::Length);
        check("go home", &[2, 7], &["me", " h"], &["go"], FinishReason::Stop);
        check("é!", &[1, 2, 3, 3], &[], &["é", "!"], FinishReason::Stop);
        check("", &[0], &[], &[], FinishReason::Stop);
    }
}
