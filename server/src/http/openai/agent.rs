//! The agent as a chat model: the last user message is the goal of a web task. A stream shows the run's events before the answer.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use milepost_runtime::EpisodeStore;
use milepost_service::{EventKind, EventStream, Service, TaskRecord, TaskState};
use serde_json::{Map, Value, json};
use url::Url;

use super::answer::{Completion, CompletionBuilder, FinishReason, TaskOutcome, Usage, stream_response};
use super::error::OpenAiError;
use super::models::agent_name;
use super::request::ChatRequest;
use crate::http::auth::Caller;
use crate::http::request::request_id::RequestId;
use crate::http::rest::{NewTask, submit_task};
use crate::http::state::{App, Schemas};

/// Cancels a task when it is dropped without having been disarmed, which means that the caller who waited for the answer has disconnected.
struct CancelOnDrop {
    service: Service,
    /// The task's id.
    id: String,
    armed: bool,
}

impl CancelOnDrop {
    /// Lets the task continue when this is dropped.
    fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.armed) {
            return;
        }
        let (service, id) = (self.service.clone(), self.id.clone());
        tokio::spawn(async move {
            match service.cancel(&id).await {
                Ok(_) => tracing::info!(task = id, "the caller disconnected; the task is cancelled"),
                Err(error) => tracing::debug!(%error, "the task of a caller who disconnected was not cancelled"),
            }
        });
    }
}

/// Submits the task and answers with its result: at its end, or as a stream of chunks.
pub(super) async fn answer(app: &App, caller: &Caller, id: &RequestId, request: ChatRequest) -> Result<Response, OpenAiError> {
    let new = new_task(&request, &app.schemas)?;
    let submitted = submit_task(app, &caller.name, id, new).await?;
    let task = submitted.record.id;
    // A repeated request shares its task with the first one and must not cancel it.
    let cancel = CancelOnDrop { service: app.service.clone(), id: task.clone(), armed: !submitted.repeated };
    let events = app.service.events(&task, 0).await?;
    let builder = CompletionBuilder::new(agent_name(), &app.deployment.engine.generation().id());
    match request.stream == Some(true) {
        true => Ok(stream_response(event_chunks(app.clone(), builder, cancel, events, request.wants_usage()))),
        false => completion_at_end(app, builder, cancel, events).await.map(|completion| Json(completion).into_response()),
    }
}

/// Returns the task that a request describes: the goal is the last user message, and `milepost` has the other fields.
fn new_task(request: &ChatRequest, schemas: &Schemas) -> Result<NewTask, OpenAiError> {
    let goal = request.goal()?;
    let mut fields = match &request.milepost {
        None => Map::new(),
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) => return Err(OpenAiError::field("milepost", "it holds the fields of a task, as in {\"url\": \"https://…\"}")),
    };
    if fields.contains_key("goal") {
        return Err(OpenAiError::field("milepost", "the goal is the last user message; leave `milepost.goal` out"));
    }
    let url_in_metadata = request.metadata.as_ref().and_then(|metadata| metadata.get("url")).and_then(Value::as_str);
    if !fields.contains_key("url") {
        let Some(url) = url_in_metadata.map(str::to_owned).or_else(|| first_address(&goal)) else {
            return Err(OpenAiError::field(
                "messages",
                "where should the task begin? give an address in the message, in `metadata.url` or in `milepost.url`",
            ));
        };
        fields.insert("url".into(), url.into());
    }
    fields.insert("goal".into(), goal.into());
    if let (Some(seed), false) = (request.seed, fields.contains_key("seed")) {
        fields.insert("seed".into(), json!(seed.unsigned_abs()));
    }
    Ok(schemas.read(Value::Object(fields).to_string().as_bytes())?)
}

/// Returns the first http or https address in a text, without the punctuation of the sentence that it ends.
fn first_address(text: &str) -> Option<String> {
    let candidates = text.match_indices("http").map(|(at, _)| &text[at..]);
    candidates
        .filter(|rest| rest.starts_with("http://") || rest.starts_with("https://"))
        .filter_map(|rest| rest.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '`' | '|')).next())
        .map(|address| address.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}']))
        .find(|address| Url::parse(address).is_ok_and(|url| url.has_host()))
        .map(str::to_owned)
}

/// Waits for the task's end and returns the completion.
async fn completion_at_end(
    app: &App,
    builder: CompletionBuilder,
    mut cancel: CancelOnDrop,
    mut events: EventStream,
) -> Result<Completion, OpenAiError> {
    while let Some(event) = events.next().await {
        if matches!(event?.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. }) {
            break;
        }
    }
    cancel.disarm();
    let task = app.service.get(&cancel.id).await?;
    let usage = usage(app, &task).await;
    let mut completion = builder.completion(answer_text(&task), finish_reason(&task), usage);
    completion.milepost = Some(task_outcome(task));
    Ok(completion)
}

/// Returns the chunks of a stream: one for each event that is shown, and then the answer.
fn event_chunks(
    app: App,
    builder: CompletionBuilder,
    cancel: CancelOnDrop,
    events: EventStream,
    wants_usage: bool,
) -> impl Stream<Item = Result<Value, OpenAiError>> + Send {
    let first = stream::once(std::future::ready(Ok(builder.role_chunk())));
    let state = Some((app, builder, cancel, events));
    let rest = stream::unfold(state, move |state| async move {
        let (app, builder, mut cancel, mut events) = state?;
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Some((vec![Err(error.into())], None)),
            None => {
                // The daemon shuts down: the task stays in the queue and continues after the next start.
                cancel.disarm();
                let text = "\nThe daemon shuts down; the task goes on when it is back.";
                return Some((vec![Ok(builder.text_chunk(text)), Ok(builder.finish_chunk(FinishReason::Length))], None));
            }
        };
        if matches!(event.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. }) {
            cancel.disarm();
            return Some((last_chunks(&app, &builder, &cancel.id, wants_usage).await, None));
        }
        let chunk = event_text(&event.kind, &cancel.id).map(|text| Ok(builder.text_chunk(&text)));
        Some((chunk.into_iter().collect(), Some((app, builder, cancel, events))))
    });
    first.chain(rest.flat_map(stream::iter))
}

/// Returns the last chunks: the answer, the end with the task's outcome, and the usage if the request asks for it.
async fn last_chunks(app: &App, builder: &CompletionBuilder, id: &str, wants_usage: bool) -> Vec<Result<Value, OpenAiError>> {
    let task = match app.service.get(id).await {
        Ok(task) => task,
        Err(error) => return vec![Err(error.into())],
    };
    let answer = builder.text_chunk(&format!("\n{}", answer_text(&task)));
    let mut finish = builder.finish_chunk(finish_reason(&task));
    let usage = if wants_usage { Some(builder.usage_chunk(usage(app, &task).await)) } else { None };
    finish["milepost"] = json!(task_outcome(task));
    [answer, finish].into_iter().chain(usage).map(Ok).collect()
}

/// Describes an event in one or more lines; returns `None` for an event that is not shown. `id` is the task's id.
fn event_text(kind: &EventKind, id: &str) -> Option<String> {
    Some(match kind {
        EventKind::Queued { reason: Some(reason) } => format!("Queued again: {reason}\n"),
        EventKind::Plan { version, cursor, steps } => {
            let mark = |index: usize| if index == *cursor { ">" } else { " " };
            let steps = steps.iter().enumerate().map(|(at, step)| format!("{} {}. {} [{}]\n", mark(at), at + 1, step.text, step.milestone));
            format!("Plan {version}:\n{}", steps.collect::<String>())
        }
        EventKind::Milestone { index, text } => format!("Reached {}: {text}\n", index + 1),
        EventKind::Step { action, error: Some(error), .. } => format!("- {action} (failed: {error})\n"),
        EventKind::Step { action, .. } => format!("- {action}\n"),
        EventKind::ApprovalRequested(request) => {
            format!("Waits for a person: {} ({}). POST /v1/tasks/{id}/approve or /deny decides.\n", request.action, request.reason)
        }
        EventKind::Approved { .. } => "Approved.\n".into(),
        EventKind::Denied { .. } => "Denied.\n".into(),
        _ => return None,
    })
}

/// Returns the task's output or answer, or says why there is none.
fn answer_text(task: &TaskRecord) -> String {
    match (&task.answer, &task.output) {
        (_, Some(output)) => output.to_string(),
        (Some(answer), None) if task.state == TaskState::Done => answer.clone(),
        _ => {
            let reason = task.reason.as_deref().or(task.stop.as_deref()).unwrap_or("no reason was given");
            format!("The task is {}: {reason}", task.state)
        }
    }
}

/// Returns the reason why the task's answer ends.
fn finish_reason(task: &TaskRecord) -> FinishReason {
    match task.stop.as_deref() {
        Some("step_limit" | "time_limit" | "deadline") => FinishReason::Length,
        _ => FinishReason::Stop,
    }
}

/// Returns the task's outcome as the answer shows it.
fn task_outcome(task: TaskRecord) -> TaskOutcome {
    TaskOutcome { task: task.id, state: task.state.word(), stop: task.stop, success: task.success, output: task.output }
}

/// Returns the number of tokens in all model calls of the task's episode; zero if the episode cannot be read.
async fn usage(app: &App, task: &TaskRecord) -> Usage {
    let Some(episode) = &task.episode else { return Usage::default() };
    let episode = match app.store.load(episode).await {
        Ok(Some(episode)) => episode,
        Ok(None) => return Usage::default(),
        Err(error) => {
            tracing::warn!(%error, episode, "the episode cannot be read, and its usage is reported as zero");
            return Usage::default();
        }
    };
    let calls = episode.calls.iter().chain(episode.steps.iter().flat_map(|step| &step.calls));
    let (read, written) = calls.fold((0, 0), |(read, written), call| (read + call.prompt_ids.len(), written + call.completion_ids.len()));
    Usage::new(read as u64, written as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_message_is_found() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(first_address(text).as_deref(), expected, "{text}");
        check("Buy it at https://shop.example.org/a?b=1, please", Some("https://shop.example.org/a?b=1"));
        check("(see http://127.0.0.1:8080/).", Some("http://127.0.0.1:8080/"));
        check("http or https: //x, then <https://a.b/c>", Some("https://a.b/c"));
        check("https:// is not one", None);
        check("nothing here", None);
    }

    #[test]
    fn the_url_comes_from_the_message_the_metadata_or_the_milepost_field() {
        let schemas = crate::http::router::schemas();
        let read = |extra: Value| {
            let mut request =
                json!({ "model": "milepost/agent", "messages": [{ "role": "user", "content": "Look at http://a.example/" }] });
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let request: ChatRequest = serde_json::from_value(request).unwrap();
            new_task(&request, &schemas).map(|new| (new.url.to_string(), new.seed)).map_err(|error| error.error.message)
        };
        assert_eq!(read(json!({})), Ok(("http://a.example/".into(), 0)));
        assert_eq!(read(json!({ "metadata": { "url": "http://b.example/" }, "seed": 7 })), Ok(("http://b.example/".into(), 7)));
        assert_eq!(read(json!({ "milepost": { "url": "http://c.example/", "seed": 3 }, "seed": 7 })), Ok(("http://c.example/".into(), 3)));
        assert!(read(json!({ "milepost": { "planer": "react" } })).unwrap_err().contains("planer"));
        assert!(read(json!({ "milepost": { "goal": "x" } })).is_err());
    }
}
