//! The daemon's routes, with the middleware that every request passes through.

use axum::Router;
use axum::middleware::from_fn;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::errors::Problem;
use crate::http::request::{guard, request_id, unread_body};
use crate::http::state::{App, Parts, Schemas};
use crate::http::{auth, mcp, observability, openai, rest, web};

/// Returns the routes that the API's document describes.
fn documented_routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(document_head()).merge(rest::routes()).merge(observability::routes()).merge(openai::routes())
}

/// Returns the API's document (OpenAPI 3.1).
pub fn document() -> OpenApi {
    documented_routes().into_openapi()
}

/// Makes the state of a daemon from its parts.
pub fn app(parts: Parts) -> App {
    App::new(parts, schemas(), web::sign_in)
}

/// Compiles the validators of all schemas in the API's document.
pub(crate) fn schemas() -> Schemas {
    Schemas::new(&serde_json::to_value(document()).unwrap_or_default())
}

/// Returns all routes with their middleware. The layer that is added last sees a request first.
pub fn router(app: &App) -> Router {
    let (routes, document) = documented_routes().split_for_parts();
    routes
        .merge(mcp::routes(app))
        .merge(web::routes())
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(async || Problem::missing("there is nothing at this address; `/docs` shows what there is"))
        .method_not_allowed_fallback(async || {
            Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "this address takes other methods; `Allow` names them")
        })
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(from_fn(openai::translate_problems))
        .layer(from_fn(request_id::trace))
        .layer(from_fn_with_state(app.clone(), unread_body::drain_unread_body))
        .with_state(app.clone())
}

/// Returns the response to a request whose handler panicked.
fn panic_response(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    axum::response::IntoResponse::into_response(Problem::internal(&"a handler panicked"))
}

/// Returns the head of the API's document: title, licence and the ways to authenticate.
fn document_head() -> OpenApi {
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(auth::COOKIE)));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Milepost")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Submit web tasks, follow and steer them, and decide which adapter serves."))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
                .build(),
        )
        .components(Some(ComponentsBuilder::new().security_scheme("bearer", bearer).security_scheme("session", cookie).build()))
        .security(Some([SecurityRequirement::new("bearer", [""; 0]), SecurityRequirement::new("session", [""; 0])]))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_of_the_document_has_a_validator() {
        let document = serde_json::to_value(document()).unwrap();
        let names: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
        let schemas = schemas();
        let missing: Vec<_> = names.iter().filter(|name| !schemas.contains(name)).collect();
        assert!(missing.is_empty() && names.len() > 20, "{missing:?}");
    }
}
