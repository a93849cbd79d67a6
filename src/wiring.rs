//! Where concrete types meet the runtime's traits.

use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_engines::{LocalEngine, LocalModelConfig, RemoteEngine, RemoteModelConfig, is_hub_id};
use milepost_planners::{ModelPolicy, ModelVerifier, PlannerKind, Prompts};
use milepost_runtime::{DirectoryRegistry, Engine, Secrets, SqliteStore, Task, Tool};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment};
use milepost_tools::egress::{EgressProxy, EgressRules};
use milepost_tools::fetch::FetchTool;

use crate::config::{Config, EngineKind};
use crate::serving::{self, Chosen};

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
    /// Loads the model that the configuration names, with the adapter that should serve, proved.
    ///
    /// # Errors
    /// A model that is missing, incomplete or does not fit its tokenizer; a server that does not answer; an adapter that fails its proof.
    pub async fn load(config: &Config) -> Result<Self> {
        let prompts = Arc::new(Prompts::new(&config.policy)?);
        let engine = match serving::choose(config).await? {
            None => engine(config, prompts.hash(), None).await?,
            Some(chosen) => {
                let engine = engine(config, prompts.hash(), Some(&chosen)).await.map_err(|error| chosen.refuse(error))?;
                chosen.check(&engine.generation()).map_err(|error| chosen.refuse(error))?;
                engine
            }
        };
        Ok(Self { verifier: ModelVerifier::new(engine.clone(), prompts.clone()), engine, prompts })
    }

    /// The same mind on an engine around its own: one that counts, for instance.
    pub fn through(self, around: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>) -> Self {
        let engine = around(self.engine);
        Self { verifier: ModelVerifier::new(engine.clone(), self.prompts.clone()), engine, prompts: self.prompts }
    }

    /// A policy of this kind on this model.
    pub fn policy(&self, kind: PlannerKind, config: &Config) -> ModelPolicy {
        ModelPolicy::new(self.engine.clone(), self.prompts.clone(), kind, config.policy.clone())
    }
}

/// Starts the engine; an adapter proves itself before anybody is served.
async fn engine(config: &Config, prompts: &str, chosen: Option<&Chosen>) -> milepost_runtime::Result<Arc<dyn Engine>> {
    match config.engine {
        EngineKind::Local => {
            let adapter = chosen.map(|chosen| chosen.directory.clone());
            let local = LocalModelConfig { prompts_hash: prompts.to_owned(), adapter, ..config.local.clone() };
            let probes = chosen.and_then(|chosen| chosen.probes.as_ref());
            let engine = LocalEngine::load(&local).await?;
            if let Some(probes) = probes {
                engine.prove(probes).await?;
            }
            Ok(Arc::new(engine))
        }
        EngineKind::Remote => {
            let engine = RemoteEngine::new(&RemoteModelConfig { prompts_hash: prompts.to_owned(), ..config.remote.clone() })?;
            if let Some(chosen) = chosen {
                engine.swap(&chosen.directory, &chosen.probes.clone().unwrap_or_default()).await?;
            }
            Ok(Arc::new(engine))
        }
    }
}

/// The tools beside the browser.
pub fn tools(config: &Config) -> Result<Vec<Arc<dyn Tool>>> {
    Ok(vec![Arc::new(FetchTool::new(config.browser.proxy.as_deref())?)])
}

/// The registry of generations, beside the episodes.
pub fn registry(config: &Config) -> DirectoryRegistry {
    DirectoryRegistry::new(config.episodes.directory.join("adapters"))
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
    Ok(egress(&mut config.browser, EgressRules::parse(&task.capability.hosts)?).await?)
}

/// Starts an egress proxy with these rules and puts the browser behind it.
pub async fn egress(browser: &mut BrowserConfig, rules: EgressRules) -> milepost_runtime::Result<Option<EgressProxy>> {
    if browser.proxy.is_some() || browser.webdriver_url.is_some() {
        return Ok(None);
    }
    let proxy = EgressProxy::start(rules).await?;
    browser.proxy = Some(proxy.address().to_string());
    Ok(Some(proxy))
}

/// Refuses a model directory that is not there before anything else is started.
pub fn check_model(config: &Config) -> Result<()> {
    let (key, hub) = match config.engine {
        EngineKind::Local => ("local.model", is_hub_id(&config.local.model)),
        EngineKind::Remote => ("remote.base", false),
    };
    match config.base() {
        Some(model) if !hub && !model.exists() => anyhow::bail!(
            "the model directory {} does not exist; set `{key}` to a directory of safetensors, or train one with `milepost learn sft`",
            model.display()
        ),
        _ => Ok(()),
    }
}
