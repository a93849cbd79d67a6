//! Carries tasks out: the agent as `milepost run` runs it, on the engine that all workers share.

mod browsers;
mod output;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use milepost_planners::PlannerKind;
use milepost_runtime::{Agent, Environment, Episode, Error, Secrets, SqliteStore, Stop, Task};
use milepost_service::{Job, Report, RunFailure, Runner};
use milepost_tools::mcp::McpTools;
use tracing::Instrument;

use super::canary::Canary;
use super::metered::MeteredBrowser;
use super::requests::Requests;
use crate::config::Config;
use crate::wiring::{self, Mind};
use browsers::{Browsers, Equipped};
use watch::{Person, Watcher};

/// Carries tasks out in browsers.
pub(super) struct BrowserRunner {
    config: Config,
    mind: Arc<Mind>,
    canary: Arc<Canary>,
    store: Arc<SqliteStore>,
    secrets: Secrets,
    browsers: Arc<Browsers>,
    requests: Arc<Requests>,
    mcp: McpTools,
}

impl BrowserRunner {
    /// A runner; it starts the browsers that are kept ready.
    ///
    /// # Errors
    /// A secret whose value is not there.
    pub(super) fn new(
        config: &Config,
        mcp: McpTools,
        mind: Arc<Mind>,
        canary: Arc<Canary>,
        store: Arc<SqliteStore>,
        requests: Arc<Requests>,
    ) -> anyhow::Result<Self> {
        let browsers = Browsers::new(config);
        Ok(Self { config: config.clone(), secrets: config.secrets()?, mind, canary, store, browsers, requests, mcp })
    }

    async fn carry_out(&self, job: &Job) -> Result<Report, RunFailure> {
        let submission = &job.record.submission;
        let permanent = |error: &dyn std::fmt::Display| RunFailure::Permanent(error.to_string());
        let mut task = submission.task(&job.record.id, &self.config.limits).map_err(|error| permanent(&error))?;
        if submission.capability.as_ref().is_none_or(|wanted| wanted.tools.is_none()) {
            self.mcp.allow(&mut task);
        }
        let schema = submission.output_schema.as_ref().map(output::Wanted::new).transpose().map_err(|error| permanent(&error))?;
        let kind = match &submission.planner {
            None => self.config.policy.planner,
            Some(word) => word.parse::<PlannerKind>().map_err(|error| permanent(&error))?,
        };
        let secrets = self.secrets.only(&task.capability.secrets);
        let began = Instant::now();
        let mut equipped = self.browsers.take(&task, submission.profile.as_deref(), secrets).await.map_err(failure)?;
        metrics::histogram!("milepost_phase_seconds", "phase" => "browser").record(began.elapsed().as_secs_f64());
        tracing::Span::current().record("request_id", self.requests.of(&job.record.id));
        let ran = self.run_agent(job, task, kind, submission.seed, &mut equipped).await;
        let blocked = equipped.give_back().await;
        metrics::counter!("milepost_blocked_hosts_total").increment(blocked);
        let episode = ran.map_err(failure)?;
        Ok(report(episode, schema.as_ref()))
    }

    async fn run_agent(
        &self,
        job: &Job,
        task: Task,
        kind: PlannerKind,
        seed: u64,
        with: &mut Equipped,
    ) -> milepost_runtime::Result<Episode> {
        let mind = self.canary.mind(&job.record.id, &self.mind);
        let policy = mind.policy(kind, &self.config);
        let mut tools = with.tools(&self.config).map_err(|error| Error::Environment(format!("{error:#}")))?;
        tools.extend(self.mcp.tools());
        let person = Person::new(job.desk.clone(), task.capability.clone(), with.egress());
        let mut watcher = Watcher::new(job.desk.clone());
        let agent = Agent {
            policy: &policy,
            verifier: Some(&mind.verifier),
            environment: with.browser(),
            tools: &tools,
            store: &*self.store,
            listener: &mut watcher,
            overseer: Some(&person),
            cancel: job.desk.cancel(),
            screenshots: self.config.episodes.screenshots,
            generation: mind.engine.generation().id(),
            seed,
        };
        agent.run(task).await
    }
}

#[async_trait]
impl Runner for BrowserRunner {
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
        self.requests.forget(&job.record.id);
        ran
    }
}

/// What another attempt may mend, and what it will not.
fn failure(error: Error) -> RunFailure {
    match error {
        Error::Environment(_) | Error::EnvironmentGone(_) | Error::Store { .. } | Error::Engine(_) | Error::Unproved(_) => {
            RunFailure::Transient(error.to_string())
        }
        error => RunFailure::Permanent(error.to_string()),
    }
}

/// An episode's end, held to the output that was asked for.
fn report(episode: Episode, wanted: Option<&output::Wanted>) -> Report {
    let mut stop = episode.stop.unwrap_or_else(|| Stop::Failed("it ended without a reason".into()));
    let mut output = None;
    if let (Stop::Answered, Some(wanted)) = (&stop, wanted) {
        match wanted.read(episode.answer.as_deref().unwrap_or_default()) {
            Ok(value) => output = Some(value),
            Err(reason) => stop = Stop::Malformed(format!("the answer does not fit `output_schema`: {reason}")),
        }
    }
    Report { stop, answer: episode.answer, output, success: episode.success, episode: Some(episode.id) }
}

/// Refuses an output schema that no output can be held to.
///
/// # Errors
/// Why.
pub(crate) fn check_output_schema(schema: &serde_json::Value) -> Result<(), String> {
    output::Wanted::new(schema).map(drop)
}

/// Opens a page, looks, and closes it again: what `observe` shows.
pub async fn observe(config: &Config, task: &Task) -> milepost_runtime::Result<milepost_runtime::Observation> {
    let mut config = config.clone();
    let launch = async {
        let egress = wiring::confine(&mut config, task).await?;
        anyhow::Ok((egress, wiring::browser(&config, Secrets::default()).await?))
    };
    let (_egress, browser) = launch.await.map_err(|error| Error::Environment(format!("{error:#}")))?;
    let mut browser = MeteredBrowser(browser);
    let seen = async {
        browser.reset(task).await?;
        browser.observe().await
    }
    .await;
    browser.close().await?;
    seen
}
