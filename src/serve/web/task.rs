//! A task's page: its plan, latest screenshot, actions and log, and what a person can do about it.

use axum::extract::State as Of;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt};
use milepost_service::{TaskEvent, TaskRecord};
use minijinja::context;
use std::sync::Arc;

use super::page::{Oops, Viewer, show as page};
use super::view::View;
use crate::serve::App;
use crate::serve::payload::Path;

/// Most actions and log lines that are shown, the newest; the replay shows all.
const SHOWN: usize = 200;

pub(super) async fn show(Of(app): Of<App>, viewer: Viewer, Path(id): Path<String>) -> Result<Response, Oops> {
    let task = app.service.get(&id).await?;
    let events = events(&app, &task).await?;
    let mut view = View::of(events.iter().map(AsRef::as_ref));
    let done = view.done();
    view.log.drain(..view.log.len().saturating_sub(SHOWN));
    view.steps.drain(..view.steps.len().saturating_sub(SHOWN));
    let output = task.output.as_ref().and_then(|output| serde_json::to_string_pretty(output).ok());
    page("task.html", &viewer, context! { is_final => task.state.is_final(), task, view, done, output })
}

/// A task's events so far: they are numbered from 1 without a gap.
async fn events(app: &App, task: &TaskRecord) -> Result<Vec<Arc<TaskEvent>>, Oops> {
    let so_far = usize::try_from(task.last_seq).unwrap_or(usize::MAX);
    if so_far == 0 {
        return Ok(Vec::new());
    }
    Ok(app.service.events(&task.id, 0).await?.take(so_far).try_collect().await?)
}
