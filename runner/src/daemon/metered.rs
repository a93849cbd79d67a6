//! Wrappers that measure and trace the calls of an engine and a browser, and pass them on unchanged.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use milepost_runtime::{
    Action, Engine, Environment, GenerateRequest, Generated, Generation, GenerationEngine, Observation, Outcome, Probes, Result,
    ScoreRequest, Task,
};
use tracing::Instrument;

/// An engine whose calls are measured and traced (OpenTelemetry's semantic conventions for generative AI).
pub struct MeteredEngine {
    inner: Arc<dyn GenerationEngine>,
    /// The model's name in traces.
    model: String,
}

impl MeteredEngine {
    /// Wraps an engine.
    pub fn new(inner: Arc<dyn GenerationEngine>, model: &str) -> Self {
        let engine = Self { inner, model: model.to_owned() };
        engine.record_generation();
        engine
    }

    /// Records in the metrics which generation serves.
    fn record_generation(&self) {
        metrics::gauge!("milepost_generation_info", "generation" => self.inner.generation().id()).set(1.0);
    }

    /// Runs a swap and records its outcome; `before` is the id of the generation before it.
    async fn record_swap(&self, before: String, swap: impl Future<Output = Result<Generation>>) -> Result<Generation> {
        let swapped = swap.await;
        let outcome = if swapped.is_ok() { "done" } else { "refused" };
        metrics::counter!("milepost_engine_swaps_total", "outcome" => outcome).increment(1);
        if swapped.is_ok() {
            metrics::gauge!("milepost_generation_info", "generation" => before).set(0.0);
            self.record_generation();
        }
        swapped
    }
}

/// A call in the queue; dropping it takes the call off the count.
struct Waiting(metrics::Gauge);

impl Waiting {
    fn begin() -> Self {
        let queue = metrics::gauge!("milepost_engine_queue");
        queue.increment(1.0);
        Self(queue)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[async_trait]
impl Engine for MeteredEngine {
    async fn generate(&self, request: GenerateRequest) -> Result<Generated> {
        let role = format!("{:?}", request.role).to_lowercase();
        let span = tracing::info_span!("chat", otel.name = %format!("chat {}", self.model), otel.kind = "client",
            gen_ai.operation.name = "chat", gen_ai.provider.name = "milepost", gen_ai.request.model = %self.model,
            gen_ai.request.temperature = request.temperature, gen_ai.request.max_tokens = request.max_tokens, milepost.role = %role,
            gen_ai.response.id = tracing::field::Empty, gen_ai.usage.input_tokens = tracing::field::Empty,
            gen_ai.usage.output_tokens = tracing::field::Empty, error.type = tracing::field::Empty);
        let (waiting, began) = (Waiting::begin(), Instant::now());
        let generated = self.inner.generate(request).instrument(span.clone()).await;
        drop(waiting);
        metrics::histogram!("milepost_engine_call_seconds", "role" => role.clone()).record(began.elapsed().as_secs_f64());
        match &generated {
            Ok(generated) => {
                let (read, written) = (generated.call.prompt_ids.len() as u64, generated.call.completion_ids.len() as u64);
                metrics::counter!("milepost_tokens_total", "role" => role.clone(), "direction" => "input").increment(read);
                metrics::counter!("milepost_tokens_total", "role" => role, "direction" => "output").increment(written);
                span.record("gen_ai.usage.input_tokens", read).record("gen_ai.usage.output_tokens", written);
            }
            Err(error) => {
                metrics::counter!("milepost_engine_failures_total", "role" => role).increment(1);
                span.record("error.type", tracing::field::display(error));
            }
        }
        generated
    }

    fn generation(&self) -> Generation {
        self.inner.generation()
    }
}

#[async_trait]
impl GenerationEngine for MeteredEngine {
    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>> {
        let _waiting = Waiting::begin();
        self.inner.score(request).await
    }

    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation> {
        self.record_swap(self.inner.generation().id(), self.inner.swap(adapter, probes)).await
    }

    async fn serve_base(&self) -> Result<Generation> {
        self.record_swap(self.inner.generation().id(), self.inner.serve_base()).await
    }
}

/// An environment whose calls are timed and traced.
pub struct MeteredBrowser<E>(pub E);

/// Runs a call in its span and records its duration by phase.
async fn timed<T>(phase: &'static str, span: tracing::Span, work: impl Future<Output = Result<T>>) -> Result<T> {
    let began = Instant::now();
    let done = work.instrument(span.clone()).await;
    metrics::histogram!("milepost_phase_seconds", "phase" => phase).record(began.elapsed().as_secs_f64());
    if let Err(error) = &done {
        span.record("error.type", tracing::field::display(error));
        if matches!(error, milepost_runtime::Error::EnvironmentGone(_)) {
            metrics::counter!("milepost_browser_restarts_total").increment(1);
        }
    }
    done
}

#[async_trait]
impl<E: Environment> Environment for MeteredBrowser<E> {
    async fn reset(&mut self, task: &Task) -> Result<()> {
        let span = tracing::info_span!("open", url.full = %task.start_url, error.type = tracing::field::Empty);
        timed("open", span, self.0.reset(task)).await
    }

    async fn observe(&mut self) -> Result<Observation> {
        timed("observe", tracing::info_span!("observe", error.type = tracing::field::Empty), self.0.observe()).await
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        let kind = format!("{:?}", action.kind()).to_lowercase();
        let span = tracing::info_span!("act", otel.name = %format!("execute_tool {kind}"), gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = %kind, gen_ai.tool.type = "function", error.type = tracing::field::Empty);
        span.in_scope(|| tracing::debug!(%action, "acts"));
        timed("act", span, self.0.act(action)).await
    }

    fn scrubbed(&self, text: &str) -> String {
        self.0.scrubbed(text)
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        timed("screenshot", tracing::info_span!("screenshot", error.type = tracing::field::Empty), self.0.screenshot()).await
    }

    async fn close(&mut self) -> Result<()> {
        self.0.close().await
    }
}
