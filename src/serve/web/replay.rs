//! A recorded episode, step by step.

use axum::extract::State as Of;
use axum::response::Response;
use milepost_runtime::{Episode, EpisodeStore, Plan, StepStatus};
use minijinja::{Value, context};
use serde::Deserialize;

use super::page::{Oops, Viewer, show as page};
use crate::serve::App;
use crate::serve::payload::{Path, Query};
use crate::serve::problem::Problem;

/// Most lines of an observation.
const LINES: usize = 300;

/// Which step is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    /// From 1; one past the last step is the end.
    #[serde(default)]
    step: Option<usize>,
}

pub(super) async fn show(
    Of(app): Of<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Query(At { step }): Query<At>,
) -> Result<Response, Oops> {
    let task = app.service.get(&id).await?;
    let missing = || Problem::missing(format!("task {id} has no recording (yet); it is made while it runs"));
    let episode = app.store.load(task.episode.as_deref().ok_or_else(missing)?).await?.ok_or_else(missing)?;
    let last = episode.steps.len() + 1;
    let at = step.unwrap_or(1).clamp(1, last);
    let moment = match at < last {
        true => step_at(&episode, at - 1),
        false => end(&episode),
    };
    let stop = episode.stop.as_ref().map(|stop| context! { word => stop.word(), reason => stop.reason() });
    page("replay.html", &viewer, context! { task, at, last, moment, stop, success => episode.success, answer => episode.answer })
}

/// A step: what was seen, what the plan said then, what was done, and what came of it.
fn step_at(episode: &Episode, index: usize) -> Value {
    let Some(step) = episode.steps.get(index) else { return Value::from(()) };
    let plan = episode.plans.iter().find(|plan| plan.version == step.plan_version);
    let target = step.action.target().and_then(|id| step.observation.element(id));
    context! {
        turn => step.turn,
        url => step.observation.url,
        title => step.observation.title,
        screenshot => step.screenshot,
        observation => step.observation.render(LINES),
        plan => plan.map(|plan| lines(plan, step.turn, &step.reached)),
        version => step.plan_version,
        cursor => step.cursor,
        action => step.action.to_string(),
        target => target.map(|element| format!("{} {:?}", element.role, element.name)),
        outcome => step.outcome,
        timing => step.timing,
    }
}

/// The end: the last page, and the plan as it stood.
fn end(episode: &Episode) -> Value {
    let seen = episode.last_observation.as_ref();
    context! {
        url => seen.map(|page| page.url.clone()),
        title => seen.map(|page| page.title.clone()),
        observation => seen.map(|page| page.render(LINES)),
        plan => episode.plan().map(|plan| lines(plan, u32::MAX, &[])),
        version => episode.plan().map_or(0, |plan| plan.version),
        cursor => episode.plan().map_or(0, |plan| plan.cursor),
    }
}

/// The plan's steps as they stood at a turn.
fn lines(plan: &Plan, turn: u32, reached: &[usize]) -> Vec<Value> {
    let status = |step: &milepost_runtime::PlanStep| match step.status {
        StepStatus::Done if step.milestone.at.is_some_and(|at| at <= turn) => "done",
        StepStatus::Failed => "failed",
        _ => "pending",
    };
    let line = |(index, step): (usize, &milepost_runtime::PlanStep)| {
        let check = step.milestone.check.as_ref().map_or_else(|| step.milestone.text.clone(), ToString::to_string);
        context! { text => step.text, milestone => check, status => status(step), reached => reached.contains(&index) }
    };
    plan.steps.iter().enumerate().map(line).collect()
}
