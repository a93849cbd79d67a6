//! The daemon's routes: one line a part, one guard before all.

use axum::Router;
use axum::middleware::from_fn;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::problem::Problem;
use super::{App, auth, mcp, observability, openai, requests, rest, rest_of_body, web};

/// The parts with a contract.
fn parts() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(head()).merge(rest::routes()).merge(observability::routes()).merge(openai::routes())
}

/// The API's document (OpenAPI 3.1).
pub fn document() -> OpenApi {
    parts().into_openapi()
}

/// All routes.
pub fn router(app: &App) -> Router {
    let (routes, document) = parts().split_for_parts();
    routes
        .merge(mcp::routes(app))
        .merge(web::routes())
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(async || Problem::missing("there is nothing at this address; `/docs` shows what there is"))
        .method_not_allowed_fallback(async || {
            Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "this address takes other methods; `Allow` names them")
        })
        .layer(from_fn_with_state(app.clone(), auth::guard))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(openai::in_its_words))
        .layer(from_fn(requests::trace))
        .layer(from_fn_with_state(app.clone(), rest_of_body::read_off))
        .with_state(app.clone())
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    axum::response::IntoResponse::into_response(Problem::internal(&"a handler panicked"))
}

fn head() -> OpenApi {
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(auth::COOKIE)));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Milepost")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Hand in web tasks, follow and steer them, and decide what serves."))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
                .build(),
        )
        .components(Some(ComponentsBuilder::new().security_scheme("bearer", bearer).security_scheme("session", cookie).build()))
        .security(Some([SecurityRequirement::new("bearer", [""; 0]), SecurityRequirement::new("session", [""; 0])]))
        .build()
}
