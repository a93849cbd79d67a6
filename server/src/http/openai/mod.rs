//! The OpenAI-compatible API: the local policy, and the agent that carries out web tasks, as models for any OpenAI client.

mod agent;
mod answer;
mod chat;
mod error;
mod models;
mod policy;
mod request;

use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::state::App;

pub use error::translate_problems;

/// A schema that the document's macros do not find themselves, because only sets of responses name it.
#[derive(OpenApi)]
#[openapi(components(schemas(error::OpenAiError)))]
struct ErrorSchema;

/// Returns the routes of the OpenAI-compatible API.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(ErrorSchema::openapi())
        .routes(routes!(chat::complete))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .route("/v1/models/{owner}/{name}", get(models::show_by_parts))
}
