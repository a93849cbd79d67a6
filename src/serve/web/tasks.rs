//! All tasks, and the form for a new one.

use axum::extract::State as Of;
use axum::response::Response;
use milepost_service::{Filter, TaskState};
use minijinja::context;
use serde::Deserialize;

use super::page::{Oops, Viewer, show};
use crate::serve::App;
use crate::serve::payload::Query;

const PAGE: u32 = 25;

/// Which tasks are listed; an empty state is all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    #[serde(default)]
    state: String,
    cursor: Option<String>,
}

pub(super) async fn list(Of(app): Of<App>, viewer: Viewer, Query(listing): Query<Listing>) -> Result<Response, Oops> {
    // Before the tasks are read, so that nothing falls between the two.
    let position = app.service.recent_events(1).await?.last().map_or(0, |event| event.position);
    let state = TaskState::of_word(&listing.state);
    let page = app.service.list(&Filter { state, caller: None }, listing.cursor.as_deref(), PAGE).await?;
    let stats = app.service.stats().await?;
    let states: Vec<_> = stats.tasks.iter().map(|(state, count)| context! { word => state.word(), count => count }).collect();
    let values = context! {
        tasks => page.tasks, next => page.next, state => state.map(TaskState::word), states, position,
        workers => stats.workers, busy => stats.busy, draining => stats.draining,
    };
    show("tasks.html", &viewer, values)
}

pub(super) async fn new(Of(app): Of<App>, viewer: Viewer) -> Result<Response, Oops> {
    let secrets: Vec<&String> = app.config.secrets.keys().collect();
    let values = context! { secrets, max_steps => app.config.limits.max_steps, planner => app.config.policy.planner };
    show("new.html", &viewer, values)
}
