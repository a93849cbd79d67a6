//! The daemon: puts the queue, the runner, the deployment, the improvement loop and the server together.

mod models;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use milepost_improve::daemon::{
    Deployment, DeploymentSettings, Improvement, ImprovementSettings, Program, WorkerLoad, adapter_at_start, triggers,
};
use milepost_runner::daemon::{BrowserRunner, HttpWebhookSender, MeteredEngine, RunnerSettings, observe};
use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{Observation, Task};
use milepost_server::app::{App, ChatSettings, PageObserver, Parts, ServerSettings};
use milepost_server::auth::Tokens;
use milepost_server::{Listener, StdioEnd};
use milepost_service::{Ports, RequestIds, Service};
use milepost_tools::browser::BrowserConfig;
use milepost_tools::mcp::McpTools;
use tokio_util::sync::CancellationToken;

use self::models::{DaemonModels, TrialSlot};
use crate::config::{Config, EngineKind};
use crate::exit::{BadConfig, Exit};
use crate::{improve_host, model, wiring};

/// Returns the daemon's directory, which holds its queue, tokens and named profiles.
pub fn directory(config: &Config) -> PathBuf {
    config.serve.directory.clone().unwrap_or_else(|| config.episodes.directory.join("service"))
}

/// Returns the path of the file with the administrator's token.
pub fn token_file(config: &Config) -> PathBuf {
    config.serve.token_file.clone().unwrap_or_else(|| directory(config).join("token"))
}

/// Runs the daemon until `stop` is cancelled.
///
/// # Errors
/// A port, token file, model, certificate or directory cannot be used.
pub async fn serve(config: Config, ready_file: Option<PathBuf>, log: &str, stop: CancellationToken) -> Result<Exit> {
    let telemetry = milepost_server::start_telemetry(&config.serve, log)?;
    let ended = serve_with_telemetry(config, ready_file.clone(), stop).await;
    if let Some(file) = &ready_file {
        let _ = std::fs::remove_file(file);
    }
    let _ = tokio::task::spawn_blocking(move || telemetry.end()).await;
    ended
}

async fn serve_with_telemetry(config: Config, ready_file: Option<PathBuf>, stop: CancellationToken) -> Result<Exit> {
    model::check(&config).context(BadConfig)?;
    if let Some(canary) = &config.serve.canary {
        canary.check().context(BadConfig)?;
    }
    let triggers = triggers(&config.serve.improve)?;
    let listener = Listener::open(&config.serve).await?;
    let app = tokio::select! {
        app = assemble(config) => app?,
        () = stop.cancelled() => return Ok(Exit::Cancelled),
    };
    for (reason, trigger) in triggers {
        tokio::spawn(app.improvement.clone().run_on_trigger(reason, trigger));
    }
    milepost_server::serve(app, listener, ready_file.as_deref(), stop).await?;
    Ok(Exit::Done)
}

/// Serves MCP over stdin and stdout, with a queue and workers in this process and no port.
///
/// # Errors
/// A model, directory or browser cannot be used, or a running daemon uses the directory.
pub async fn serve_mcp(config: Config, stop: CancellationToken) -> Result<Exit> {
    model::check(&config).context(BadConfig)?;
    let app = tokio::select! {
        app = assemble(config) => app?,
        () = stop.cancelled() => return Ok(Exit::Cancelled),
    };
    Ok(match milepost_server::serve_stdio(app, stop).await? {
        StdioEnd::Done => Exit::Done,
        StdioEnd::Cancelled => Exit::Cancelled,
    })
}

/// Puts the daemon together.
async fn assemble(config: Config) -> Result<App> {
    let home = directory(&config);
    std::fs::create_dir_all(&home)
        .with_context(|| format!("{} cannot be made; give the daemon another `serve.directory`", home.display()))?;
    let token_file = token_file(&config);
    let (tokens, made) = Tokens::open(&token_file, &home)?;
    if made {
        eprintln!("milepost: a token was made; it is in {}", token_file.display());
    }
    let metrics = milepost_server::install_metrics_recorder()?;
    let store = Arc::new(wiring::store(&config).await?);
    let loaded = load_model(&config).await?;
    let request_ids = Arc::new(RequestIds::default());
    let trial = Arc::new(TrialSlot::new(&config));
    let deployment = Arc::new(Deployment::new(DeploymentSettings {
        engine: loaded.engine.clone(),
        registry: wiring::registry(&config),
        store: store.clone(),
        trial: trial.clone(),
        adapter: config.adapter.clone(),
        canary: config.serve.canary.clone().filter(|_| config.base().is_some()),
        live: config.serve.live.clone(),
        directory: home.clone(),
    }));
    let mcp = McpTools::connect(&config.mcp).await?;
    let models = Arc::new(DaemonModels::new(Arc::new(loaded), trial, deployment.clone()));
    let runner = BrowserRunner::new(runner_settings(&config).context(BadConfig)?, mcp, models, store.clone(), request_ids.clone());
    let timeout = Duration::from_secs(config.service.webhooks.timeout_seconds);
    let webhook_sender = Arc::new(HttpWebhookSender::new(&config.serve.webhook_hosts, timeout).await?);
    let ports = Ports { runner: Arc::new(runner), episodes: store.clone(), webhook_sender };
    let service = Service::open(&home, config.service.clone(), ports).await?;
    let improvement = Improvement::new(improvement_settings(&config, &service)?, deployment.clone(), store.clone());
    Ok(milepost_server::router::app(Parts {
        settings: server_settings(&config),
        service,
        deployment,
        improvement,
        store,
        observer: Arc::new(BrowserObserver(config.browser)),
        request_ids,
        tokens,
        metrics,
    }))
}

/// Loads the model with the adapter that serves at the start. This is the registry's current adapter unless that adapter needs a trial
/// first.
async fn load_model(config: &Config) -> Result<milepost_planners::LoadedModel> {
    let has_canary = config.serve.canary.is_some() && config.adapter == AdapterChoice::Current && config.base().is_some();
    let adapter = match has_canary && wiring::registry(config).root().is_dir() {
        false => config.adapter.clone(),
        true => {
            let loads = async |adapter: AdapterChoice| {
                let config = Config { adapter, ..config.clone() };
                model::load(&config).await.map(drop).map_err(|error| milepost_improve::Error::Host(error.into()))
            };
            adapter_at_start(&directory(config), &wiring::registry(config), &model::recorded_base(config)?, loads).await?
        }
    };
    let loaded = model::load(&Config { adapter, ..config.clone() }).await?;
    Ok(loaded.wrap(|engine| Arc::new(MeteredEngine::new(engine, config.model()))))
}

fn runner_settings(config: &Config) -> Result<RunnerSettings> {
    Ok(RunnerSettings {
        run: wiring::run_settings(config),
        limits: config.limits.clone(),
        secrets: config.secrets()?,
        profiles: directory(config).join("profiles"),
        warm_browsers: config.serve.warm_browsers,
    })
}

fn server_settings(config: &Config) -> ServerSettings {
    let local = config.engine == EngineKind::Local;
    ServerSettings {
        serve: config.serve.clone(),
        drain: Duration::from_secs(config.service.drain_seconds),
        workers: config.service.workers,
        chat: ChatSettings {
            temperature: config.policy.temperature,
            max_tokens: config.policy.plan_tokens,
            grammar: local || config.remote.grammar != milepost_engines::GrammarField::Off,
            reports_end_token: local,
        },
        page_lines: config.policy.page_lines,
        episodes: config.episodes.directory.clone(),
        secrets: config.secrets.keys().cloned().collect(),
        max_steps: config.limits.max_steps,
        planner: config.policy.planner.word().to_owned(),
    }
}

/// Returns the settings of the improvement loop, whose child process is this program with the configuration in force.
fn improvement_settings(config: &Config, service: &Service) -> Result<ImprovementSettings> {
    let program = Program {
        path: std::env::current_exe().context("the path of this program cannot be found")?,
        settings: serde_norway::to_string(config)?,
        directory: directory(config),
    };
    let service = service.clone();
    Ok(ImprovementSettings {
        config: config.serve.improve.clone(),
        program,
        runs: improve_host::loop_settings(config).runs(),
        untrainable: model::weights(config).err().map(|error| error.to_string()),
        load: Box::new(move || {
            let load = service.load();
            WorkerLoad { workers: load.workers, busy: load.busy, waiting: usize::try_from(load.waiting).unwrap_or(usize::MAX) }
        }),
    })
}

/// Observes pages in browsers of their own.
struct BrowserObserver(BrowserConfig);

#[async_trait]
impl PageObserver for BrowserObserver {
    async fn observe(&self, task: &Task) -> milepost_runtime::Result<Observation> {
        observe(&self.0, task).await
    }
}
