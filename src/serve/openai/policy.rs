//! The local policy as a chat model: the given messages, no page, no grammar but the caller's.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use milepost_engines::GrammarField;
use milepost_runtime::{Error, GenerateRequest, Generated, Role};

use super::answer::{Finish, Head, Usage, chunks};
use super::models::policy_name;
use super::refusal::Refusal;
use super::request::ChatRequest;
use crate::config::EngineKind;
use crate::serve::App;

/// What the model wrote, cut where the caller wants it to stop.
struct Written {
    generated: Generated,
    /// Bytes of the text that count.
    end: usize,
    finish: Finish,
}

impl Written {
    fn new(generated: Generated, stops: &[String], most: usize, engine: EngineKind) -> Self {
        let cut = stops.iter().filter_map(|stop| generated.text.find(stop.as_str())).min();
        let finish = match cut {
            Some(_) => Finish::Stop,
            None => finish(&generated, most, engine),
        };
        Self { end: cut.unwrap_or(generated.text.len()), finish, generated }
    }

    fn text(&self) -> &str {
        self.generated.text.get(..self.end).unwrap_or_default()
    }

    /// The text token by token; a character that takes several tokens comes with its last one.
    fn pieces(&self) -> Vec<String> {
        let text = self.text();
        let mut begin = 0;
        let ends = self.generated.ends.iter().map(|end| (*end).min(text.len())).chain([text.len()]);
        let mut pieces = Vec::new();
        for end in ends {
            if let Some(piece) = text.get(begin..end).filter(|piece| !piece.is_empty()) {
                pieces.push(piece.to_owned());
                begin = end;
            }
        }
        pieces
    }

    fn usage(&self) -> Usage {
        let call = &self.generated.call;
        Usage::new(call.prompt_ids.len() as u64, call.completion_ids.len().max(self.generated.ends.len()) as u64)
    }
}

/// A completion that ends with the end token, which adds no text, is finished; a server keeps that token to itself.
fn finish(generated: &Generated, most: usize, engine: EngineKind) -> Finish {
    let ends = &generated.ends;
    let ended = match ends.as_slice() {
        [] => true,
        [only] => *only == 0,
        [.., before, last] => before == last,
    };
    match ended || (engine == EngineKind::Remote && ends.len() < most) {
        true => Finish::Stop,
        false => Finish::Length,
    }
}

/// Answers with the model's own words; dropped when the caller hangs up, which ends the generation.
pub(super) async fn answer(app: &App, request: ChatRequest, generation: Option<String>) -> Result<Response, Refusal> {
    let most = request.max_completion_tokens.or(request.max_tokens).unwrap_or(app.config.policy.plan_tokens);
    let grammar = request.grammar()?;
    let held = grammar.is_some();
    if held && app.config.engine == EngineKind::Remote && app.config.remote.grammar == GrammarField::Off {
        return Err(Refusal::field("response_format", "the model cannot be held to a form: `remote.grammar` is off"));
    }
    let asked = GenerateRequest {
        role: Role::Executor,
        messages: request.chat()?,
        grammar,
        temperature: request.temperature.unwrap_or(app.config.policy.temperature),
        seed: request.seed.map_or_else(rand::random, i64::cast_unsigned),
        max_tokens: most,
    };
    let generated = app.mind.engine.generate(asked).await.map_err(|error| refused(error, held))?;
    let served = generated.call.generation.clone();
    if let Some(wanted) = generation.filter(|wanted| *wanted != served) {
        return Err(Refusal::no_model(format!("{} went out of service meanwhile; {} serves", policy_name(&wanted), policy_name(&served))));
    }
    let head = Head::new(policy_name(&served), &served);
    let written = Written::new(generated, &request.stops(), most, app.config.engine);
    if request.stream != Some(true) {
        return Ok(Json(head.whole(written.text().to_owned(), written.finish, written.usage())).into_response());
    }
    let mut told = vec![head.opening()];
    told.extend(written.pieces().iter().map(|piece| head.piece(piece)));
    told.push(head.ending(written.finish));
    if request.wants_usage() {
        told.push(head.usage(written.usage()));
    }
    Ok(chunks(stream::iter(told.into_iter().map(Ok))))
}

/// An engine's refusal; a schema that no grammar can be made of is the caller's.
fn refused(error: Error, held: bool) -> Refusal {
    match error {
        Error::Engine(reason) if held && reason.contains("does not compile") => {
            Refusal::field("response_format", format!("the model cannot be held to this form: {reason}"))
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use milepost_runtime::Call;

    use super::*;

    fn written(text: &str, ends: &[usize], stops: &[&str]) -> Written {
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
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        Written::new(Generated { text: text.into(), call, ends: ends.to_vec() }, &stops, 8, EngineKind::Local)
    }

    #[test]
    fn a_text_comes_token_by_token_and_ends_where_it_should() {
        let check = |text: &str, ends: &[usize], stops: &[&str], pieces: &[&str], finish: Finish| {
            let written = written(text, ends, stops);
            assert_eq!(written.pieces(), pieces);
            assert_eq!(written.pieces().concat(), written.text());
            assert_eq!(written.finish, finish);
            assert_eq!(written.usage(), Usage::new(3, ends.len() as u64));
        };
        check("go home", &[2, 7, 7], &[], &["go", " home"], Finish::Stop);
        check("go home", &[2, 7], &[], &["go", " home"], Finish::Length);
        check("go home", &[2, 7], &["me", " h"], &["go"], Finish::Stop);
        check("é!", &[1, 2, 3, 3], &[], &["é", "!"], Finish::Stop);
        check("", &[0], &[], &[], Finish::Stop);
    }
}
