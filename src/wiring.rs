//! Where concrete types meet the runtime's traits.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_engines::{LocalModelConfig, MistralEngine, RemoteEngine, RemoteModelConfig};
use milepost_planners::{ModelPolicy, ModelVerifier, PlannerKind, Prompts};
use milepost_runtime::{Engine, Secrets, SqliteStore, Task, Tool};
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::egress::{EgressProxy, EgressRules};
use milepost_tools::fetch::FetchTool;

use crate::config::{Config, EngineKind};

/// A loaded model with its prompts.
pub struct Mind {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The prompts.
    pub prompts: Arc<Prompts>,
    /// Decides milestones that have no check.
    pub verifier: ModelVerifier,
}

impl Mind {
    /// Loads the model that the configuration names.
    ///
    /// # Errors
    /// A model that is missing, incomplete or does not fit its tokenizer; a server that does not answer.
    pub async fn load(config: &Config) -> Result<Self> {
        let prompts = Arc::new(Prompts::new(&config.policy)?);
        let engine: Arc<dyn Engine> = match config.engine {
            EngineKind::Local => {
                let local = LocalModelConfig { prompts_hash: prompts.hash().to_owned(), ..config.local.clone() };
                Arc::new(MistralEngine::load(&local).await?)
            }
            EngineKind::Remote => {
                let remote = RemoteModelConfig { prompts_hash: prompts.hash().to_owned(), ..config.remote.clone() };
                Arc::new(RemoteEngine::new(&remote)?)
            }
        };
        Ok(Self { verifier: ModelVerifier::new(engine.clone(), prompts.clone()), engine, prompts })
    }

    /// A policy of this kind on this model.
    pub fn policy(&self, kind: PlannerKind, config: &Config) -> ModelPolicy {
        ModelPolicy::new(self.engine.clone(), self.prompts.clone(), kind, config.policy.clone())
    }
}

/// The tools beside the browser.
pub fn tools(config: &Config) -> Result<Vec<Arc<dyn Tool>>> {
    Ok(vec![Arc::new(FetchTool::new(config.browser.proxy.as_deref())?)])
}

/// Opens the episode store.
pub async fn store(config: &Config) -> Result<SqliteStore> {
    Ok(SqliteStore::open(&config.episodes.directory).await?)
}

/// Starts a browser.
pub async fn browser(config: &Config, secrets: Secrets) -> Result<BrowserEnvironment> {
    BrowserEnvironment::launch(&config.browser, secrets)
        .await
        .context("the browser could not be started; `milepost doctor` shows what is missing")
}

/// Starts the egress proxy for a task's hosts and puts browser and tools behind it: the allow-list holds at the network, whatever a
/// page tries. A configured proxy or a WebDriver server elsewhere is left as it is.
pub async fn confine(config: &mut Config, task: &Task) -> Result<Option<EgressProxy>> {
    if config.browser.proxy.is_some() || config.browser.webdriver_url.is_some() {
        return Ok(None);
    }
    let proxy = EgressProxy::start(EgressRules::parse(&task.capability.hosts)?).await?;
    config.browser.proxy = Some(proxy.address().to_string());
    Ok(Some(proxy))
}

/// Refuses a model directory that is not there before anything else is started.
pub fn check_model(config: &Config) -> Result<()> {
    let model = Path::new(&config.local.model);
    if config.engine == EngineKind::Local && config.local.model.matches('/').count() != 1 && !model.exists() {
        anyhow::bail!(
            "the model directory {} does not exist; set `local.model` to a directory of safetensors, or train one with `milepost learn sft`",
            model.display()
        );
    }
    Ok(())
}
