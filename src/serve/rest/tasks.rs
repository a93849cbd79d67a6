//! Tasks: handing in, listing, looking, deciding.

use axum::Json;
use axum::extract::State as Of;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use milepost_service::{Filter, Submission};
use milepost_tools::egress::EgressRules;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::refusals::{Absent, Crowded, Refused, Unchanged};
use super::submission::NewTask;
use super::task::{State, Task};
use crate::serve::App;
use crate::serve::auth::{Operator, Reader};
use crate::serve::payload::{Optional, Path, Payload, Query};
use crate::serve::problem::Problem;
use crate::serve::requests::RequestId;
use crate::serve::runner::check_output_schema;

/// Which tasks are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only in this state.
    #[param(inline)]
    state: Option<State>,
    /// Only of this caller.
    #[param(max_length = 128)]
    caller: Option<String>,
    /// Where to go on: `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// Most tasks of a page; 50 where nothing is said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A page of tasks, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tasks {
    /// The tasks.
    tasks: Vec<Task>,
    /// The cursor of the next page, where there is one.
    next: Option<String>,
}

/// What a person says with a decision.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Note {
    /// In words, for the record and the agent.
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// Something said to the agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What.
    #[schema(min_length = 1, max_length = 2048, pattern = r"[^\s\x85]")]
    text: String,
}

/// Whether a finished task was done as asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeedback {
    /// Whether it was.
    success: bool,
    /// Why.
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// Hand in a task
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = NewTask, responses(
    (status = 201, description = "Queued", body = Task, headers(("Location" = String, description = "The task"))),
    (status = 200, description = "Handed in before, with the same idempotency key", body = Task, headers(("Location" = String, description = "The task"))),
    Refused, Unchanged, Crowded))]
pub(super) async fn submit(
    Of(app): Of<App>,
    Operator(caller): Operator,
    request: RequestId,
    Payload(new): Payload<NewTask>,
) -> Result<Response, Problem> {
    let submission = Submission::from(new);
    check(&app, &submission)?;
    let submitted = app.service.submit(&caller.name, submission).await.map_err(passed_deadline)?;
    let (task, repeated) = (Task::from(submitted.record), submitted.repeated);
    if !repeated {
        app.requests.remember(&task.id, &request.0);
        metrics::counter!("milepost_tasks_submitted_total").increment(1);
        tracing::info!(task = %task.id, caller = %caller.name, "queued");
    }
    let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/v1/tasks/{}", task.id);
    Ok((status, [(header::LOCATION, location)], Json(task)).into_response())
}

/// What only the daemon's configuration can say of a submission.
pub(crate) fn check(app: &App, submission: &Submission) -> Result<(), Problem> {
    if let Some(unknown) = submission.secrets.iter().find(|name| !app.config.secrets.contains_key(*name)) {
        return Err(Problem::forbidden(format!("there is no secret {unknown:?} here; `secrets` of the daemon's configuration names them")));
    }
    let hosts = submission.capability.as_ref().and_then(|capability| capability.hosts.as_deref()).unwrap_or_default();
    EgressRules::parse(hosts)?;
    submission.output_schema.as_ref().map(check_output_schema).transpose().map_err(Problem::invalid)?;
    let allowed = milepost_runtime::Capability {
        hosts: app.config.serve.webhook_hosts.clone(),
        ..milepost_runtime::Capability::for_host(&submission.url)
    };
    if let Some(webhook) = submission.webhook.as_ref().filter(|webhook| !allowed.allows_url(webhook)) {
        let host = milepost_runtime::task::authority(webhook);
        return Err(Problem::forbidden(format!("webhooks may not go to {host}; list it in `serve.webhook_hosts`")));
    }
    Ok(())
}

/// A deadline that has passed is a matter of the clock, not of the body's form.
fn passed_deadline(error: milepost_service::Error) -> Problem {
    match &error {
        milepost_service::Error::Invalid { field: "deadline", .. } => Problem::conflict(error.to_string()),
        _ => error.into(),
    }
}

/// List tasks
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(Listing), responses(
    (status = 200, description = "A page, newest first", body = Tasks), Refused))]
pub(super) async fn list(Of(app): Of<App>, _: Reader, Query(listing): Query<Listing>) -> Result<Json<Tasks>, Problem> {
    let limit = listing.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Problem::unreadable("limit must be from 1 to 200"));
    }
    let good = |cursor: &String| (1..=18).contains(&cursor.len()) && cursor.bytes().all(|byte| byte.is_ascii_digit());
    if listing.cursor.as_ref().is_some_and(|cursor| !good(cursor)) {
        return Err(Problem::unreadable("cursor is none of ours; use `next` of the page before"));
    }
    if listing.caller.as_ref().is_some_and(|caller| caller.chars().count() > 128) {
        return Err(Problem::unreadable("caller is longer than any token's name"));
    }
    let filter = Filter { state: listing.state.map(Into::into), caller: listing.caller };
    let page = app.service.list(&filter, listing.cursor.as_deref(), limit).await?;
    Ok(Json(Tasks { tasks: page.tasks.into_iter().map(Task::from).collect(), next: page.next }))
}

/// Look at a task
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task", body = Task), Refused, Absent))]
pub(super) async fn show(Of(app): Of<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.get(&id).await?.into()))
}

/// Cancel a task
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task; cancelled, or about to be", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn cancel(Of(app): Of<App>, _: Operator, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.cancel(&id).await?.into()))
}

/// Start an interrupted task anew
#[utoipa::path(post, path = "/v1/tasks/{id}/resume", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task, queued again", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn resume(Of(app): Of<App>, _: Operator, Path(id): Path<String>) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.resume(&id).await?.into()))
}

/// Let the action be carried out that a task waits with
#[utoipa::path(post, path = "/v1/tasks/{id}/approve", tag = "tasks", request_body(content = Option<Note>),
    params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task, running again", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn approve(
    Of(app): Of<App>,
    _: Operator,
    Path(id): Path<String>,
    Optional(Note { note }): Optional<Note>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.approve(&id, note.as_deref()).await?.into()))
}

/// Refuse that action; the run goes on and is told so
#[utoipa::path(post, path = "/v1/tasks/{id}/deny", tag = "tasks", request_body(content = Option<Note>),
    params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task, running again", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn deny(
    Of(app): Of<App>,
    _: Operator,
    Path(id): Path<String>,
    Optional(Note { note }): Optional<Note>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.deny(&id, note.as_deref()).await?.into()))
}

/// Say something to the agent
#[utoipa::path(post, path = "/v1/tasks/{id}/message", tag = "tasks", request_body = Message,
    params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn message(
    Of(app): Of<App>,
    _: Operator,
    Path(id): Path<String>,
    Payload(message): Payload<Message>,
) -> Result<Json<Task>, Problem> {
    Ok(Json(app.service.message(&id, &message.text).await?.into()))
}

/// Say whether a finished task was done as asked, which makes its episode one to learn from
#[utoipa::path(post, path = "/v1/tasks/{id}/feedback", tag = "tasks", request_body = NewFeedback,
    params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The task", body = Task), Refused, Absent, Unchanged))]
pub(super) async fn feedback(
    Of(app): Of<App>,
    _: Operator,
    Path(id): Path<String>,
    Payload(said): Payload<NewFeedback>,
) -> Result<Json<Task>, Problem> {
    let before = app.service.get(&id).await?.success;
    let task = app.service.feedback(&id, said.success, said.note.as_deref()).await?;
    if before.is_none() {
        app.live.outcome(&app, &task).await;
    }
    Ok(Json(task.into()))
}
