//! The recorder of this process's metrics for Prometheus.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::http::errors::{Error, Result};

/// The upper bounds of the histograms' buckets in seconds, from the duration of a click to that of a long task.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// Installs the recorder and describes the metrics. Must be called within a tokio runtime, before the first metric is recorded.
///
/// # Errors
/// The process has a recorder already.
pub fn install() -> Result<PrometheusHandle> {
    let setup = |error: BuildError| Error::Setup(format!("the metrics cannot be recorded: {error}"));
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS).map_err(setup)?;
    let handle = builder.install_recorder().map_err(setup)?;
    let texts = [
        ("milepost_phase_seconds", "Duration of a browser phase."),
        ("milepost_step_seconds", "Duration of the parts of a step: model, page."),
        ("milepost_engine_call_seconds", "Duration of a model call, including the time in the queue."),
        ("milepost_http_request_seconds", "Time from a request until its response begins."),
        ("milepost_task_seconds", "Duration of an attempt at a task."),
    ];
    texts.into_iter().for_each(|(name, text)| metrics::describe_histogram!(name, metrics::Unit::Seconds, text));
    metrics::describe_gauge!("milepost_tasks", "Tasks by state.");
    metrics::describe_gauge!("milepost_engine_queue", "Model calls that are waiting or running.");
    metrics::describe_counter!("milepost_tokens_total", "Tokens read and written by the model.");
    metrics::describe_counter!("milepost_browser_restarts_total", "Browsers that died or were ended, and were restarted.");
    metrics::describe_counter!("milepost_browsers_started_total", "Browsers that were started.");
    metrics::describe_gauge!("milepost_browsers_ready", "Browsers that wait for a task.");
    metrics::describe_counter!("milepost_blocked_hosts_total", "Connections that the egress rules refused.");
    metrics::describe_gauge!("milepost_generation_info", "1 for the generation that serves.");
    // These metrics get a value now, so that they exist before their first event.
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
