//! How the daemon stands: alive, ready, and its figures.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as Of;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::auth::Reader;
use super::problem::Problem;
use super::rest::Refused;

/// Seconds: from a click to a long task.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// The routes.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(figures))
}

/// How the daemon stands, in a word.
#[derive(Debug, Serialize, ToSchema)]
pub struct Standing {
    /// `ok`.
    status: &'static str,
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "observability", security(()), responses((status = 200, description = "It does", body = Standing)))]
async fn healthz() -> Json<Standing> {
    Json(Standing { status: "ok" })
}

/// Whether it takes work
#[utoipa::path(get, path = "/readyz", tag = "observability", security(()), responses(
    (status = 200, description = "It does", body = Standing),
    (status = 503, description = "It starts or shuts down", body = Problem, content_type = "application/problem+json")))]
async fn readyz(Of(app): Of<App>) -> Result<Json<Standing>, Problem> {
    match app.ready.load(Ordering::Acquire) {
        true => Ok(Json(Standing { status: "ok" })),
        false => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon starts or shuts down; try again soon")),
    }
}

/// Figures for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "observability", responses(
    (status = 200, description = "Figures; their names begin with `milepost_`", body = String, content_type = "text/plain; version=0.0.4"), Refused))]
async fn figures(Of(app): Of<App>, _: Reader) -> Result<impl IntoResponse, Problem> {
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

/// Begins to count.
///
/// # Errors
/// Somebody counts already.
pub(super) fn recorder() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?;
    let handle = builder.install_recorder()?;
    let texts = [
        ("milepost_phase_seconds", "What a browser phase takes."),
        ("milepost_step_seconds", "What a part of a step takes: model, page."),
        ("milepost_engine_call_seconds", "What a model call takes, waiting included."),
        ("milepost_http_request_seconds", "What a request takes until its answer begins."),
        ("milepost_task_seconds", "What an attempt takes."),
    ];
    texts.into_iter().for_each(|(name, text)| metrics::describe_histogram!(name, metrics::Unit::Seconds, text));
    metrics::describe_gauge!("milepost_tasks", "Tasks by state.");
    metrics::describe_gauge!("milepost_engine_queue", "Model calls that wait or run.");
    metrics::describe_counter!("milepost_tokens_total", "Tokens read and written by the model.");
    metrics::describe_counter!("milepost_browser_restarts_total", "Browsers that died or were ended, and were started again.");
    metrics::describe_counter!("milepost_browsers_started_total", "Browsers that were started.");
    metrics::describe_gauge!("milepost_browsers_ready", "Browsers that wait for a task.");
    metrics::describe_counter!("milepost_blocked_hosts_total", "Connections that the egress rules refused.");
    metrics::describe_gauge!("milepost_generation_info", "1 for the generation that answers.");
    // Counted from the start, so that a figure is there before its first event.
    metrics::counter!("milepost_browser_restarts_total").absolute(0);
    metrics::counter!("milepost_blocked_hosts_total").absolute(0);
    metrics::counter!("milepost_tasks_submitted_total").absolute(0);
    metrics::gauge!("milepost_engine_queue").set(0.0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
