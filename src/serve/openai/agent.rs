//! Web tasks as a chat model: the last user message is the goal, the answer comes after what led to it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use milepost_runtime::EpisodeStore;
use milepost_service::{EventKind, EventStream, Service, TaskRecord, TaskState};
use serde_json::{Map, Value, json};
use url::Url;

use super::answer::{Completion, Finish, Head, Ran, Usage, chunks};
use super::models::agent_name;
use super::refusal::Refusal;
use super::request::ChatRequest;
use crate::serve::App;
use crate::serve::auth::Caller;
use crate::serve::payload;
use crate::serve::requests::RequestId;
use crate::serve::rest::{NewTask, hand_in};

/// A task that is cancelled when whoever waits for its answer goes away.
struct Held {
    service: Service,
    id: String,
    armed: bool,
}

impl Held {
    /// The task lives on from here.
    fn release(&mut self) {
        self.armed = false;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.armed) {
            return;
        }
        let (service, id) = (self.service.clone(), self.id.clone());
        tokio::spawn(async move {
            match service.cancel(&id).await {
                Ok(_) => tracing::info!(task = id, "its caller hung up"),
                Err(error) => tracing::debug!(%error, "the task of a caller who hung up"),
            }
        });
    }
}

/// Hands the task in and answers with what becomes of it.
pub(super) async fn answer(app: &App, caller: &Caller, id: &RequestId, request: ChatRequest) -> Result<Response, Refusal> {
    let new = task(&request)?;
    let submitted = hand_in(app, &caller.name, id, new).await?;
    let task = submitted.record.id;
    // A repeated request shares its task with the first one.
    let held = Held { service: app.service.clone(), id: task.clone(), armed: !submitted.repeated };
    let events = app.service.events(&task, 0).await?;
    let head = Head::new(agent_name(), &app.mind.engine.generation().id());
    match request.stream == Some(true) {
        true => Ok(chunks(told(app.clone(), head, held, events, request.wants_usage()))),
        false => whole(app, head, held, events).await.map(|completion| Json(completion).into_response()),
    }
}

/// The task of a request.
fn task(request: &ChatRequest) -> Result<NewTask, Refusal> {
    let goal = request.goal()?;
    let mut fields = match &request.milepost {
        None => Map::new(),
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) => return Err(Refusal::field("milepost", "it holds the fields of a task, as in {\"url\": \"https://…\"}")),
    };
    if fields.contains_key("goal") {
        return Err(Refusal::field("milepost", "the goal is the last user message; leave `milepost.goal` out"));
    }
    let named = request.metadata.as_ref().and_then(|metadata| metadata.get("url")).and_then(Value::as_str);
    if !fields.contains_key("url") {
        let Some(url) = named.map(str::to_owned).or_else(|| first_address(&goal)) else {
            return Err(Refusal::field(
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
    Ok(payload::read(Value::Object(fields).to_string().as_bytes())?)
}

/// The first http or https address in a text, without the punctuation that closes a sentence.
fn first_address(text: &str) -> Option<String> {
    let begins = text.match_indices("http").map(|(at, _)| &text[at..]);
    begins
        .filter(|rest| rest.starts_with("http://") || rest.starts_with("https://"))
        .filter_map(|rest| rest.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '`' | '|')).next())
        .map(|address| address.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}']))
        .find(|address| Url::parse(address).is_ok_and(|url| url.has_host()))
        .map(str::to_owned)
}

/// Waits for the end.
async fn whole(app: &App, head: Head, mut held: Held, mut events: EventStream) -> Result<Completion, Refusal> {
    while let Some(event) = events.next().await {
        if matches!(event?.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. }) {
            break;
        }
    }
    held.release();
    let task = app.service.get(&held.id).await?;
    let usage = usage(app, &task).await;
    let mut completion = head.whole(result(&task), finish(&task), usage);
    completion.milepost = Some(ran(task));
    Ok(completion)
}

/// Tells what happens, then the answer.
fn told(app: App, head: Head, held: Held, events: EventStream, wants_usage: bool) -> impl Stream<Item = Result<Value, Refusal>> + Send {
    let opening = stream::once(std::future::ready(Ok(head.opening())));
    let state = Some((app, head, held, events));
    let rest = stream::unfold(state, move |state| async move {
        let (app, head, mut held, mut events) = state?;
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Some((vec![Err(error.into())], None)),
            None => {
                // The daemon ends: the task is its queue's, and goes on after the next start.
                held.release();
                let text = "\nThe daemon shuts down; the task goes on when it is back.";
                return Some((vec![Ok(head.piece(text)), Ok(head.ending(Finish::Length))], None));
            }
        };
        if matches!(event.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. }) {
            held.release();
            return Some((end(&app, &head, &held.id, wants_usage).await, None));
        }
        let told = line(&event.kind, &held.id).map(|text| Ok(head.piece(&text)));
        Some((told.into_iter().collect(), Some((app, head, held, events))))
    });
    opening.chain(rest.flat_map(stream::iter))
}

/// The last chunks: the answer, the end with the task, the usage where it is wanted.
async fn end(app: &App, head: &Head, id: &str, wants_usage: bool) -> Vec<Result<Value, Refusal>> {
    let task = match app.service.get(id).await {
        Ok(task) => task,
        Err(error) => return vec![Err(error.into())],
    };
    let answer = head.piece(&format!("\n{}", result(&task)));
    let mut ending = head.ending(finish(&task));
    let used = if wants_usage { Some(head.usage(usage(app, &task).await)) } else { None };
    ending["milepost"] = json!(ran(task));
    [answer, ending].into_iter().chain(used).map(Ok).collect()
}

/// What happened, in a line or some.
fn line(kind: &EventKind, id: &str) -> Option<String> {
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

/// The answer, or why there is none.
fn result(task: &TaskRecord) -> String {
    match (&task.answer, &task.output) {
        (_, Some(output)) => output.to_string(),
        (Some(answer), None) if task.state == TaskState::Done => answer.clone(),
        _ => {
            let reason = task.reason.as_deref().or(task.stop.as_deref()).unwrap_or("no reason was given");
            format!("The task is {}: {reason}", task.state)
        }
    }
}

fn finish(task: &TaskRecord) -> Finish {
    match task.stop.as_deref() {
        Some("step_limit" | "time_limit" | "deadline") => Finish::Length,
        _ => Finish::Stop,
    }
}

fn ran(task: TaskRecord) -> Ran {
    Ran { task: task.id, state: task.state.word(), stop: task.stop, success: task.success, output: task.output }
}

/// The tokens of all model calls of the task's episode.
async fn usage(app: &App, task: &TaskRecord) -> Usage {
    let Some(episode) = &task.episode else { return Usage::default() };
    let episode = match app.store.load(episode).await {
        Ok(Some(episode)) => episode,
        Ok(None) => return Usage::default(),
        Err(error) => {
            tracing::warn!(%error, episode, "its usage is not known");
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
    fn the_first_address_of_a_message_is_where_the_task_begins() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(first_address(text).as_deref(), expected, "{text}");
        check("Buy it at https://shop.example.org/a?b=1, please", Some("https://shop.example.org/a?b=1"));
        check("(see http://127.0.0.1:8080/).", Some("http://127.0.0.1:8080/"));
        check("http or https: //x, then <https://a.b/c>", Some("https://a.b/c"));
        check("https:// is not one", None);
        check("nothing here", None);
    }

    #[test]
    fn a_task_is_read_from_message_metadata_or_field() {
        let read = |extra: Value| {
            let mut request =
                json!({ "model": "milepost/agent", "messages": [{ "role": "user", "content": "Look at http://a.example/" }] });
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let request: ChatRequest = serde_json::from_value(request).unwrap();
            task(&request).map(|new| (new.url.to_string(), new.seed)).map_err(|refusal| refusal.error.message)
        };
        assert_eq!(read(json!({})), Ok(("http://a.example/".into(), 0)));
        assert_eq!(read(json!({ "metadata": { "url": "http://b.example/" }, "seed": 7 })), Ok(("http://b.example/".into(), 7)));
        assert_eq!(read(json!({ "milepost": { "url": "http://c.example/", "seed": 3 }, "seed": 7 })), Ok(("http://c.example/".into(), 3)));
        assert!(read(json!({ "milepost": { "planer": "react" } })).unwrap_err().contains("planer"));
        assert!(read(json!({ "milepost": { "goal": "x" } })).is_err());
    }
}
