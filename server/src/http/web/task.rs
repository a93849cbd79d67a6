//! The page of a task: its plan, latest screenshot, actions and log, and the forms by which a person decides, sends messages and gives feedback.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt};
use milepost_runtime::check::UNDECIDED;
use milepost_service::{TaskEvent, TaskRecord};
use minijinja::context;

use super::page::{ErrorPage, Viewer, render_page};
use super::progress::TaskProgress;
use crate::http::request::payload::Path;
use crate::http::state::App;

/// The maximum number of actions, and of log lines, on the page. It shows the newest; the replay shows all.
const MAX_SHOWN: usize = 200;

/// Handles `GET /tasks/{id}`.
pub(super) async fn show(State(app): State<App>, viewer: Viewer, Path(id): Path<String>) -> Result<Response, ErrorPage> {
    let task = app.service.get(&id).await?;
    let events = events(&app, &task).await?;
    let mut progress = TaskProgress::from_events(events.iter().map(AsRef::as_ref));
    let done = progress.milestones_done();
    progress.log.drain(..progress.log.len().saturating_sub(MAX_SHOWN));
    progress.steps.drain(..progress.steps.len().saturating_sub(MAX_SHOWN));
    let output = task.output.as_ref().and_then(|output| serde_json::to_string_pretty(output).ok());
    render_page("task.html", &viewer, context! { is_final => task.state.is_final(), task, progress, done, output, undecided => UNDECIDED })
}

/// Returns the task's events so far. They are numbered from 1 without a gap, so the number of the last event is their count.
async fn events(app: &App, task: &TaskRecord) -> Result<Vec<Arc<TaskEvent>>, ErrorPage> {
    let so_far = usize::try_from(task.last_seq).unwrap_or(usize::MAX);
    if so_far == 0 {
        return Ok(Vec::new());
    }
    Ok(app.service.events(&task.id, 0).await?.take(so_far).try_collect().await?)
}
