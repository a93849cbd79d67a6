//! The OpenAI-compatible part: the local policy, and web tasks, as models that any OpenAI client talks to.

mod agent;
mod answer;
mod chat;
mod models;
mod policy;
mod refusal;
mod request;

use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;

pub use refusal::in_its_words;

/// What the document's macros do not find by themselves: a schema that stands in sets of answers alone.
#[derive(OpenApi)]
#[openapi(components(schemas(refusal::Refusal)))]
struct Schemas;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Schemas::openapi())
        .routes(routes!(chat::complete))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .route("/v1/models/{owner}/{name}", get(models::show_by_parts))
}
