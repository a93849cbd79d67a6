//! The page of all tasks, and the form for a new one.

use axum::extract::State;
use axum::response::Response;
use milepost_service::{TaskFilter, TaskState};
use minijinja::context;
use serde::Deserialize;

use super::page::{ErrorPage, Viewer, render_page};
use crate::http::request::payload::Query;
use crate::http::state::App;

/// The number of tasks on a page.
const PAGE_SIZE: u32 = 25;

/// The query parameters of the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// List only tasks in the state with this name; an empty or unknown name lists all.
    #[serde(default)]
    state: String,
    /// The cursor of this page, which the link on the previous page contains.
    cursor: Option<String>,
}

/// Handles `GET /`.
pub(super) async fn list(State(app): State<App>, viewer: Viewer, Query(query): Query<ListQuery>) -> Result<Response, ErrorPage> {
    // The position is read before the tasks, so that the page's script gets every event that the list does not show yet.
    let position = app.service.recent_events(1).await?.last().map_or(0, |event| event.position);
    let state = TaskState::of_word(&query.state);
    let page = app.service.list(&TaskFilter { state, caller: None }, query.cursor.as_deref(), PAGE_SIZE).await?;
    let stats = app.service.stats().await?;
    let states: Vec<_> = stats.tasks.iter().map(|(state, count)| context! { word => state.word(), count => count }).collect();
    let values = context! {
        tasks => page.tasks, next => page.next, state => state.map(TaskState::word), states, position,
        workers => stats.workers, busy => stats.busy, draining => stats.draining,
    };
    render_page("tasks.html", &viewer, values)
}

/// Handles `GET /tasks/new`.
pub(super) async fn new(State(app): State<App>, viewer: Viewer) -> Result<Response, ErrorPage> {
    let secrets: Vec<&String> = app.settings.secrets.iter().collect();
    let values = context! { secrets, max_steps => app.settings.max_steps, planner => app.settings.planner };
    render_page("new.html", &viewer, values)
}
