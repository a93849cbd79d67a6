//! The health endpoints and the metrics.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::auth::Reader;
use crate::http::errors::{CommonErrors, Problem};
use crate::http::state::App;

/// Returns the routes of this module.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(render_metrics))
}

/// The daemon's health.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Standing)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Check that the process is alive
#[utoipa::path(get, path = "/healthz", tag = "observability", security(()), responses(
    (status = 200, description = "The process is alive", body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Check that the daemon accepts tasks
#[utoipa::path(get, path = "/readyz", tag = "observability", security(()), responses(
    (status = 200, description = "The daemon accepts tasks", body = Health),
    (status = 503, description = "The daemon is starting or shutting down, or cannot write its records", body = Problem, content_type = "application/problem+json")))]
async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    let problem = |detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    if !app.is_ready() {
        return problem("the daemon starts or shuts down; try again soon");
    }
    match app.service.write_failure() {
        None => Ok(Json(Health { status: "ok" })),
        Some(_) => problem("the daemon cannot write its records; its log says why. If its disk is full, free some space"),
    }
}

/// Get the metrics in Prometheus' text format
#[utoipa::path(get, path = "/metrics", tag = "observability", operation_id = "figures", responses(
    (status = 200, description = "The metrics, whose names begin with `milepost_`", body = String, content_type = "text/plain; version=0.0.4"),
    CommonErrors))]
async fn render_metrics(State(app): State<App>, _: Reader) -> Result<impl IntoResponse, Problem> {
    let stats = app.service.stats().await?;
    for (state, count) in &stats.tasks {
        metrics::gauge!("milepost_tasks", "state" => state.word()).set(*count as f64);
    }
    metrics::gauge!("milepost_workers").set(stats.workers as f64);
    metrics::gauge!("milepost_workers_busy").set(stats.busy as f64);
    metrics::gauge!("milepost_queue_oldest_seconds").set(stats.oldest_waiting_seconds.unwrap_or(0.0));
    metrics::gauge!("milepost_webhooks_pending").set(stats.webhooks_pending as f64);
    metrics::gauge!("milepost_improvement_running").set(f64::from(u8::from(app.improvement.status().running.is_some())));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()))
}
