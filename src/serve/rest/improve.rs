//! The improvement loop: how it stands, and starting a run.

use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::refusals::{Refused, Unchanged};
use crate::improve::config::Recipe;
use crate::serve::App;
use crate::serve::auth::{Administrator, Reader};
use crate::serve::improve::config::LearnFrom;
use crate::serve::improve::{ImproveStatus, Order};
use crate::serve::payload::Optional;
use crate::serve::problem::Problem;

/// A run of the improvement loop; what is left out is the configuration's.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRun {
    /// How a round learns.
    #[schema(inline)]
    recipe: Option<Recipe>,
    /// What a round learns from.
    #[schema(inline)]
    suite: Option<LearnFrom>,
    /// Rounds.
    #[schema(minimum = 1, maximum = 100)]
    rounds: Option<usize>,
}

/// How the improvement loop stands
#[utoipa::path(get, path = "/v1/improve", tag = "improvement", responses(
    (status = 200, description = "What runs, what ran last, and when it runs by itself", body = ImproveStatus), Refused))]
pub(super) async fn show(Of(app): Of<App>, _: Reader) -> Json<ImproveStatus> {
    Json(app.improvement.status())
}

/// Start a run of the improvement loop; what it promotes serves at once
#[utoipa::path(post, path = "/v1/improve", tag = "improvement", request_body(content = Option<NewRun>), responses(
    (status = 202, description = "It runs", body = ImproveStatus), Refused, Unchanged))]
pub(super) async fn start(
    Of(app): Of<App>,
    Administrator(caller): Administrator,
    Optional(new): Optional<NewRun>,
) -> Result<(StatusCode, Json<ImproveStatus>), Problem> {
    let defaults = &app.config.serve.improve;
    let order = Order {
        reason: format!("asked for by {}", caller.name),
        recipe: new.recipe.or(defaults.recipe),
        suite: new.suite.unwrap_or(defaults.suite),
        rounds: new.rounds.unwrap_or(defaults.rounds),
    };
    app.improvement.start(&app, order)?;
    Ok((StatusCode::ACCEPTED, Json(app.improvement.status())))
}
