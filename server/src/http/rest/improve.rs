//! The improvement loop: its status, and starting a run.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use milepost_improve::config::Recipe;
use milepost_improve::daemon::{ImproveStatus, LearnFrom, Order, StartError};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::auth::{Administrator, Reader};
use crate::http::errors::{CommonErrors, Problem, WriteErrors};
use crate::http::request::payload::OptionalPayload;
use crate::http::state::App;

/// A run of the improvement loop to start; a field that is left out takes the configuration's value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRun {
    /// The recipe by which a round learns.
    #[schema(inline)]
    recipe: Option<Recipe>,
    /// The tasks that a round learns from.
    #[schema(inline)]
    suite: Option<LearnFrom>,
    /// The number of rounds.
    #[schema(minimum = 1, maximum = 100)]
    rounds: Option<usize>,
}

/// Get the status of the improvement loop
#[utoipa::path(get, path = "/v1/improve", tag = "improvement", responses(
    (status = 200, description = "The run in progress, the last run, and when the daemon starts runs itself", body = ImproveStatus), CommonErrors))]
pub(super) async fn show(State(app): State<App>, _: Reader) -> Json<ImproveStatus> {
    Json(app.improvement.status())
}

/// Start a run of the improvement loop; a generation that it promotes serves at once
#[utoipa::path(post, path = "/v1/improve", tag = "improvement", request_body(content = Option<NewRun>), responses(
    (status = 202, description = "The run has started", body = ImproveStatus), CommonErrors, WriteErrors))]
pub(super) async fn start(
    State(app): State<App>,
    Administrator(caller): Administrator,
    OptionalPayload(new): OptionalPayload<NewRun>,
) -> Result<(StatusCode, Json<ImproveStatus>), Problem> {
    let defaults = &app.settings.serve.improve;
    let order = Order {
        reason: format!("asked for by {}", caller.name),
        recipe: new.recipe.or(defaults.recipe),
        suite: new.suite.unwrap_or(defaults.suite),
        rounds: new.rounds.unwrap_or(defaults.rounds),
    };
    app.improvement.start(order).map_err(|error| match error {
        StartError::Conflict(detail) => Problem::conflict(detail),
        StartError::Failed(error) => Problem::internal(&error.with_causes()),
    })?;
    Ok((StatusCode::ACCEPTED, Json(app.improvement.status())))
}
