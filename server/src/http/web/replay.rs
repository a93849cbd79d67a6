//! The replay page: a recorded episode, step by step.

use axum::extract::State;
use axum::response::Response;
use milepost_runtime::{Episode, EpisodeStore, Plan, StepStatus};
use minijinja::{Value, context};
use serde::Deserialize;

use super::page::{ErrorPage, Viewer, render_page};
use crate::http::errors::Problem;
use crate::http::request::payload::{Path, Query};
use crate::http::state::App;

/// The maximum number of page lines of an observation that is shown.
const MAX_PAGE_LINES: usize = 300;

/// The query parameters of the replay page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayQuery {
    /// Number of the step to show, from 1; the number after the last step shows the end.
    #[serde(default)]
    step: Option<usize>,
}

/// Handles `GET /tasks/{id}/replay`.
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Query(ReplayQuery { step }): Query<ReplayQuery>,
) -> Result<Response, ErrorPage> {
    let task = app.service.get(&id).await?;
    let missing = || Problem::missing(format!("task {id} has no recording (yet); it is made while it runs"));
    let episode = app.store.load(task.episode.as_deref().ok_or_else(missing)?).await?.ok_or_else(missing)?;
    let last = episode.steps.len() + 1;
    let at = step.unwrap_or(1).clamp(1, last);
    let moment = match at < last {
        true => step_values(&episode, at - 1),
        false => end_values(&episode),
    };
    let stop = episode.stop.as_ref().map(|stop| context! { word => stop.word(), reason => stop.reason() });
    let undecided = episode.undecided_check();
    render_page(
        "replay.html",
        &viewer,
        context! { task, at, last, moment, stop, success => episode.success, undecided, answer => episode.answer },
    )
}

/// Returns the template's values for a step: the observation, the plan at that time, the action and its outcome.
fn step_values(episode: &Episode, index: usize) -> Value {
    let Some(step) = episode.steps.get(index) else { return Value::from(()) };
    let plan = episode.plans.iter().find(|plan| plan.version == step.plan_version);
    let target = step.action.target().and_then(|id| step.observation.element(id));
    context! {
        turn => step.turn,
        url => step.observation.url,
        title => step.observation.title,
        screenshot => step.screenshot,
        observation => step.observation.render(MAX_PAGE_LINES),
        plan => plan.map(|plan| plan_values(plan, step.turn, &step.reached)),
        version => step.plan_version,
        cursor => step.cursor,
        action => step.action.to_string(),
        target => target.map(|element| format!("{} {:?}", element.role, element.name)),
        outcome => step.outcome,
        timing => step.timing,
    }
}

/// Returns the template's values for the end: the last observation and the last plan.
fn end_values(episode: &Episode) -> Value {
    let page = episode.last_observation.as_ref();
    context! {
        url => page.map(|page| page.url.clone()),
        title => page.map(|page| page.title.clone()),
        observation => page.map(|page| page.render(MAX_PAGE_LINES)),
        plan => episode.plan().map(|plan| plan_values(plan, u32::MAX, &[])),
        version => episode.plan().map_or(0, |plan| plan.version),
        cursor => episode.plan().map_or(0, |plan| plan.cursor),
    }
}

/// Returns the template's values for the plan's steps, with their status at a turn; `reached` has the indices of the steps whose milestones were
/// reached in that turn.
fn plan_values(plan: &Plan, turn: u32, reached: &[usize]) -> Vec<Value> {
    let status = |step: &milepost_runtime::PlanStep| match step.status {
        StepStatus::Done if step.milestone.at.is_some_and(|at| at <= turn) => "done",
        StepStatus::Failed => "failed",
        _ => "pending",
    };
    let values = |(index, step): (usize, &milepost_runtime::PlanStep)| {
        let check = step.milestone.check.as_ref().map_or_else(|| step.milestone.text.clone(), ToString::to_string);
        context! { text => step.text, milestone => check, status => status(step), reached => reached.contains(&index) }
    };
    plan.steps.iter().enumerate().map(values).collect()
}
