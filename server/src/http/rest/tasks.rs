//! Tasks: submitting, listing and showing them, and the decisions, messages and feedback of people.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use milepost_runtime::hosts::HostRules;
use milepost_service::{Submission, Submitted, TaskFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::submission::NewTask;
use super::task::{PublicState, Task};
use crate::http::auth::{Operator, Reader};
use crate::http::errors::{CommonErrors, NotFound, Problem, QueueFull, WriteErrors};
use crate::http::request::payload::{OptionalPayload, Path, Payload, Query};
use crate::http::request::request_id::RequestId;
use crate::http::state::App;

/// The query parameters of the list of tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// List only tasks in this state.
    #[param(inline)]
    state: Option<PublicState>,
    /// List only tasks of this caller.
    #[param(max_length = 128)]
    caller: Option<String>,
    /// The cursor of this page: `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// The maximum number of tasks on the page; 50 by default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// One page of a listing, newest task first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tasks {
    /// The tasks.
    tasks: Vec<Task>,
    /// The cursor of the next page; null on the last page.
    next: Option<String>,
}

/// A person's note on a decision.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Note {
    /// The note in words, for the record and the agent.
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// A message to the agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The text of the message.
    #[schema(min_length = 1, max_length = 2048, pattern = r"[^\s\x85]")]
    text: String,
}

/// A person's judgement of a finished task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeedback {
    /// Whether the task was done as requested.
    success: bool,
    /// The reason for the judgement.
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// Submit a task
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = NewTask, responses(
    (status = 201, description = "The task was queued", body = Task, headers(("Location" = String, description = "The task's address"))),
    (status = 200, description = "The task was submitted before with the same idempotency key", body = Task, headers(("Location" = String, description = "The task's address"))),
    CommonErrors, WriteErrors, QueueFull))]
pub(super) async fn submit(
    State(app): State<App>,
    Operator(caller): Operator,
    request: RequestId,
    Payload(new): Payload<NewTask>,
) -> Result<Response, Problem> {
    let submitted = submit_task(&app, &caller.name, &request, new).await?;
    let (task, repeated) = (Task::from(submitted.record), submitted.repeated);
    let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/v1/tasks/{}", task.id);
    Ok((status, [(header::LOCATION, location)], Json(task)).into_response())
}

/// Checks and queues a task; all protocols submit tasks through this function.
pub(crate) async fn submit_task(app: &App, caller: &str, request: &RequestId, new: NewTask) -> Result<Submitted, Problem> {
    let submission = Submission::from(new);
    check_against_settings(app, &submission)?;
    let submitted = app.service.submit(caller, submission).await.map_err(submit_problem)?;
    if !submitted.repeated {
        let task = &submitted.record.id;
        app.request_ids.remember(task, &request.0);
        metrics::counter!("milepost_tasks_submitted_total").increment(1);
        tracing::info!(task = %task, %caller, "queued");
    }
    Ok(submitted)
}

/// Checks what depends on the daemon's configuration: the submission's secrets, hosts and webhook, and whether the runner can carry it out.
fn check_against_settings(app: &App, submission: &Submission) -> Result<(), Problem> {
    if let Some(unknown) = submission.secrets.iter().find(|name| !app.settings.secrets.contains(name)) {
        return Err(Problem::forbidden(format!("there is no secret {unknown:?} here; `secrets` of the daemon's configuration names them")));
    }
    let hosts = submission.capability.as_ref().and_then(|capability| capability.hosts.as_deref()).unwrap_or_default();
    HostRules::parse(hosts)?;
    app.service.check_submission(submission).map_err(Problem::invalid)?;
    let webhook_hosts = HostRules::parse(&app.settings.serve.webhook_hosts)?;
    if let Some(webhook) = submission.webhook.as_ref().filter(|webhook| !webhook_hosts.matches(webhook)) {
        let host = milepost_runtime::task::authority(webhook);
        return Err(Problem::forbidden(format!("webhooks may not go to {host}; list it in `serve.webhook_hosts`")));
    }
    Ok(())
}

/// Maps an error of submitting to a problem. A deadline in the past is a conflict (409) and not an invalid body (422), because the body fits its
/// schema and only the time has passed.
fn submit_problem(error: milepost_service::Error) -> Problem {
    match &error {
        milepost_service::Error::Invalid { field: "deadline", .. } => Problem::conflict(error.to_string()),
        _ => error.into(),
    }
}

/// List tasks
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(ListQuery), responses(
    (status = 200, description = "One page of tasks, newest first", body = Tasks), CommonErrors))]
pub(super) async fn list(State(app): State<App>, _: Reader, Query(query): Query<ListQuery>) -> Result<Json<Tasks>, Problem> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Problem::unreadable("limit must be from 1 to 200"));
    }
    let is_cursor = |cursor: &String| (1..=18).contains(&cursor.len()) && cursor.bytes().all(|byte| byte.is_ascii_digit());
    if query.cursor.as_ref().is_some_and(|cursor| !is_cursor(cursor)) {
        return Err(Problem::unreadable("cursor is none of ours; use `next` of the page before"));
    }
    if query.caller.as_ref().is_some_and(|caller| caller.chars().count() > 128) {
        return Err(Problem::unreadable("caller is longer than any token's name"));
    }
    let filter = TaskFilter { state: query.state.map(Into::into), caller: query.caller };
    let page = app.service.list(&filter, query.cursor.as_deref(), limit).await?;
    Ok(Json(Tasks { tasks: page.tasks.into_iter().map(Task::from).collect(), next: page.next }))
}

/// Get a task
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task", body = Task), CommonErrors, NotFound))]
pub(super) async fn show(State(app): State<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.get(&id).await?.into()))
}

/// Cancel a task
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task, which is cancelled or will be as soon as its runner returns", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn cancel(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.cancel(&id).await?.into()))
}

/// Queue an interrupted task again
#[utoipa::path(post, path = "/v1/tasks/{id}/resume", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task, queued again", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn resume(State(app): State<App>, _: Operator, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.resume(&id).await?.into()))
}

/// Approve the action that a task waits with
#[utoipa::path(post, path = "/v1/tasks/{id}/approve", tag = "tasks", request_body(content = Option<Note>),
    params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task, which runs again", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn approve(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<String>,
    OptionalPayload(Note { note }): OptionalPayload<Note>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.approve(&id, note.as_deref()).await?.into()))
}

/// Deny the action that a task waits with; the run continues and is told of the denial
#[utoipa::path(post, path = "/v1/tasks/{id}/deny", tag = "tasks", request_body(content = Option<Note>),
    params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task, which runs again", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn deny(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<String>,
    OptionalPayload(Note { note }): OptionalPayload<Note>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.deny(&id, note.as_deref()).await?.into()))
}

/// Send the agent a message
#[utoipa::path(post, path = "/v1/tasks/{id}/message", tag = "tasks", request_body = Message,
    params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn message(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<String>,
    Payload(message): Payload<Message>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.message(&id, &message.text).await?.into()))
}

/// Judge whether a finished task was done as requested, which makes its episode usable for training
#[utoipa::path(post, path = "/v1/tasks/{id}/feedback", tag = "tasks", request_body = NewFeedback,
    params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The task", body = Task), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn feedback(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<String>,
    Payload(feedback): Payload<NewFeedback>,
) -> Result<Json<Task>, Problem> {
    let before = app.service.get(&id).await?.success;
    let task = app.service.feedback(&id, feedback.success, feedback.note.as_deref()).await?;
    if let (None, Some(episode)) = (before, &task.episode) {
        app.deployment.outcome(episode, feedback.success).await;
    }
    Ok(Json(task.into()))
}
