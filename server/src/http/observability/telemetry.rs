//! Log lines on stderr, and traces over OTLP.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, ServeConfig};
use crate::http::errors::{Error, Result};

/// The tracer whose last spans must be sent before the process exits; `None` if no endpoint is configured.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends the spans that were not sent yet. Blocks for a few seconds at most.
    pub fn end(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Starts logging, and tracing if an endpoint is configured. Must be called within a tokio runtime.
///
/// # Errors
/// The endpoint cannot be used.
pub fn start(config: &ServeConfig, filter: &str) -> Result<Telemetry> {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log_format {
        LogFormat::Pretty => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(true).with_filter(filter).boxed(),
    };
    let provider = config.otlp_endpoint.as_ref().map(tracer_provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        let spans = EnvFilter::new("milepost=info");
        tracing_opentelemetry::layer().with_tracer(provider.tracer("milepost")).with_filter(spans)
    });
    tracing_subscriber::registry().with(lines).with(traces).init();
    Ok(Telemetry(provider))
}

/// Returns a provider whose spans are sent to the endpoint in batches.
fn tracer_provider(endpoint: &url::Url) -> Result<SdkTracerProvider> {
    let address = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(address)
        .build()
        .map_err(|error| Error::Setup(format!("`serve.otlp_endpoint` cannot be used; give it as in http://127.0.0.1:4318: {error}")))?;
    let exporter = RuntimeExporter { inner: std::sync::Arc::new(exporter), runtime: tokio::runtime::Handle::current() };
    let resource = Resource::builder().with_service_name("milepost").build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Exports spans on a tokio runtime: the batch processor runs on a thread of its own, but the HTTP client needs a runtime.
#[derive(Debug)]
struct RuntimeExporter {
    inner: std::sync::Arc<SpanExporter>,
    runtime: tokio::runtime::Handle,
}

impl opentelemetry_sdk::trace::SpanExporter for RuntimeExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let inner = self.inner.clone();
        let sent = self.runtime.spawn(async move { opentelemetry_sdk::trace::SpanExporter::export(&*inner, batch).await });
        sent.await.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?
    }
}
