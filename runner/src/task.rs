//! Carries out one task.

use std::collections::BTreeSet;

use milepost_planners::{LoadedModel, PlannerKind, PlannersConfig};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Agent, Environment, Episode, EpisodeStore, Error, Listener, Result, Secrets, Task};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment};
use milepost_tools::egress::EgressRules;
use milepost_tools::mcp::McpTools;
use tokio_util::sync::CancellationToken;

use crate::browser;

/// The settings with which a task is carried out.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The settings of the browser.
    pub browser: BrowserConfig,
    /// The settings of the policies.
    pub planners: PlannersConfig,
    /// Which steps leave a screenshot.
    pub screenshots: Screenshots,
}

/// One task with everything that its run needs.
pub struct TaskRun<'a> {
    /// The task.
    pub task: Task,
    /// The planner.
    pub planner: PlannerKind,
    /// The seed of the policy's sampling.
    pub seed: u64,
    /// The model.
    pub model: &'a LoadedModel,
    /// The secrets that the task may type.
    pub secrets: Secrets,
    /// The tools of MCP servers.
    pub mcp: &'a McpTools,
    /// The store that records the episode.
    pub store: &'a dyn EpisodeStore,
    /// The token that cancels the run.
    pub cancel: CancellationToken,
}

/// Carries a task out in a browser of its own.
///
/// Returns the recorded episode and the hosts to which connections were refused.
///
/// # Errors
/// The browser cannot be started or closed, or the episode cannot be recorded.
pub async fn run_task(run: TaskRun<'_>, settings: &RunSettings, listener: &mut dyn Listener) -> Result<(Episode, BTreeSet<String>)> {
    let TaskRun { task, planner, seed, model, secrets, mcp, store, cancel } = run;
    let mut config = settings.browser.clone();
    let egress = browser::confine(&mut config, EgressRules::parse(&task.capability.hosts)?).await?;
    let with_fix = |error| match error {
        Error::Environment(reason) => {
            Error::Environment(format!("the browser could not be started; `milepost doctor` shows what is missing: {reason}"))
        }
        error => error,
    };
    let mut chromium = BrowserEnvironment::launch(&config, secrets).await.map_err(with_fix)?;
    let policy = model.policy(planner, &settings.planners);
    let mut tools = browser::tools(config.proxy.as_deref())?;
    tools.extend(mcp.tools());
    let agent = Agent {
        policy: &policy,
        verifier: Some(&*model.verifier),
        environment: &mut chromium,
        tools: &tools,
        store,
        listener,
        overseer: None,
        cancel,
        screenshots: settings.screenshots,
        generation: model.engine.generation().id(),
        seed,
    };
    let episode = agent.run(task).await;
    let closed = chromium.close().await;
    let episode = episode?;
    closed.map_err(|error| Error::Environment(format!("the browser could not be closed cleanly: {error}")))?;
    let blocked = egress.iter().flat_map(|egress| egress.blocked()).map(|blocked| blocked.host).collect();
    Ok((episode, blocked))
}
