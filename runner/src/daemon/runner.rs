//! The runner of the daemon's queue.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use milepost_planners::{LoadedModel, PlannerKind};
use milepost_runtime::{Agent, Episode, Error, SqliteStore, Stop, Task};
use milepost_service::{Job, Report, RequestIds, RunFailure, Runner, Submission};
use milepost_tools::mcp::McpTools;
use tracing::Instrument;

use super::browsers::{BrowserPool, LeasedBrowser};
use super::output::OutputSchema;
use super::person::{Person, ServiceListener};
use super::settings::RunnerSettings;

/// Chooses the model of a task.
pub trait ModelSource: Send + Sync {
    /// Returns the model for this task; each attempt of a task gets the same generation as long as it is available.
    fn model_for(&self, task: &str) -> Arc<LoadedModel>;
}

/// Carries out tasks in browsers, with the model that all workers share.
pub struct BrowserRunner {
    settings: RunnerSettings,
    models: Arc<dyn ModelSource>,
    store: Arc<SqliteStore>,
    browsers: Arc<BrowserPool>,
    request_ids: Arc<RequestIds>,
    mcp: McpTools,
}

impl BrowserRunner {
    /// Creates a runner and starts the browsers that are kept ready. Must be called within a tokio runtime.
    pub fn new(
        settings: RunnerSettings,
        mcp: McpTools,
        models: Arc<dyn ModelSource>,
        store: Arc<SqliteStore>,
        request_ids: Arc<RequestIds>,
    ) -> Self {
        let browsers = BrowserPool::new(&settings);
        Self { settings, models, store, browsers, request_ids, mcp }
    }

    async fn carry_out(&self, job: &Job) -> Result<Report, RunFailure> {
        let submission = &job.record.submission;
        let permanent = |error: &dyn std::fmt::Display| RunFailure::Permanent(error.to_string());
        let mut task = submission.task(&job.record.id, &self.settings.limits).map_err(|error| permanent(&error))?;
        if submission.capability.as_ref().is_none_or(|wanted| wanted.tools.is_none()) {
            self.mcp.allow(&mut task);
        }
        let schema = output_schema(submission).map_err(|error| permanent(&error))?;
        let planner = self.planner(submission).map_err(|error| permanent(&error))?;
        let secrets = self.settings.secrets.only(&task.capability.secrets);
        let began = Instant::now();
        let mut browser = self.browsers.take(&task, submission.profile.as_deref(), secrets).await.map_err(failure)?;
        metrics::histogram!("milepost_phase_seconds", "phase" => "browser").record(began.elapsed().as_secs_f64());
        tracing::Span::current().record("request_id", self.request_ids.of(&job.record.id));
        let ran = self.run_agent(job, task, planner, submission.seed, &mut browser).await;
        let blocked = browser.close().await;
        metrics::counter!("milepost_blocked_hosts_total").increment(blocked);
        let episode = ran.map_err(failure)?;
        Ok(report(episode, schema.as_ref()))
    }

    fn planner(&self, submission: &Submission) -> Result<PlannerKind, String> {
        submission.planner.as_deref().map_or(Ok(self.settings.run.planners.planner), str::parse)
    }

    async fn run_agent(
        &self,
        job: &Job,
        task: Task,
        planner: PlannerKind,
        seed: u64,
        browser: &mut LeasedBrowser,
    ) -> milepost_runtime::Result<Episode> {
        let model = self.models.model_for(&job.record.id);
        let policy = model.policy(planner, &self.settings.run.planners);
        let mut tools = browser.tools()?;
        tools.extend(self.mcp.tools());
        let person = Person::new(job.handle.clone(), task.capability.clone(), browser.egress());
        let mut listener = ServiceListener::new(job.handle.clone());
        let agent = Agent {
            policy: &policy,
            verifier: Some(&*model.verifier),
            environment: browser.environment(),
            tools: &tools,
            store: &*self.store,
            listener: &mut listener,
            overseer: Some(&person),
            cancel: job.handle.cancellation_token(),
            screenshots: self.settings.run.screenshots,
            generation: model.engine.generation().id(),
            seed,
        };
        agent.run(task).await
    }
}

#[async_trait]
impl Runner for BrowserRunner {
    fn check(&self, submission: &Submission) -> Result<(), String> {
        self.planner(submission)?;
        output_schema(submission).map(drop)
    }

    async fn run(&self, job: Job) -> Result<Report, RunFailure> {
        let span = tracing::info_span!("task", otel.name = "invoke_agent milepost", gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = "milepost", task = %job.record.id, caller = %job.record.caller, attempt = job.record.attempts,
            request_id = tracing::field::Empty, stop = tracing::field::Empty);
        let began = Instant::now();
        let ran = self.carry_out(&job).instrument(span.clone()).await;
        let stop = ran.as_ref().map_or("failure", |report| report.stop.word());
        span.record("stop", stop);
        metrics::counter!("milepost_tasks_ended_total", "stop" => stop).increment(1);
        metrics::histogram!("milepost_task_seconds").record(began.elapsed().as_secs_f64());
        span.in_scope(|| match &ran {
            Ok(report) => tracing::info!(stop, reason = report.stop.reason(), "ended"),
            Err(error) => tracing::warn!(%error, "did not come to an end"),
        });
        self.request_ids.forget(&job.record.id);
        ran
    }
}

fn output_schema(submission: &Submission) -> Result<Option<OutputSchema>, String> {
    submission.output_schema.as_ref().map(OutputSchema::new).transpose()
}

/// Decides whether another attempt may succeed after this error.
fn failure(error: Error) -> RunFailure {
    match error {
        Error::Environment(_) | Error::EnvironmentGone(_) | Error::Store { .. } | Error::Engine(_) | Error::Unproved(_) => {
            RunFailure::Transient(error.to_string())
        }
        error => RunFailure::Permanent(error.to_string()),
    }
}

/// Makes the report of an episode that ended. An answer that does not fit the output schema ends the task as malformed.
fn report(episode: Episode, schema: Option<&OutputSchema>) -> Report {
    let mut stop = episode.stop.unwrap_or_else(|| Stop::Failed("it ended without a reason".into()));
    let mut output = None;
    if let (Stop::Answered, Some(schema)) = (&stop, schema) {
        match schema.read(episode.answer.as_deref().unwrap_or_default()) {
            Ok(value) => output = Some(value),
            Err(reason) => stop = Stop::Malformed(format!("the answer does not fit `output_schema`: {reason}")),
        }
    }
    Report { stop, answer: episode.answer, output, success: episode.success, episode: Some(episode.id) }
}
