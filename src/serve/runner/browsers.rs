//! Browsers for tasks: a fresh profile each, or a named one; some are started before they are needed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use milepost_runtime::{Environment, Error, Result, Secrets, Task, Tool};
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::egress::{EgressProxy, EgressRules};

use crate::config::Config;
use crate::serve::directory;
use crate::serve::metered::MeteredBrowser;
use crate::wiring;

/// A browser behind its own egress proxy; both end when it is dropped.
pub(super) struct Equipped {
    browser: MeteredBrowser<BrowserEnvironment>,
    egress: Option<Arc<EgressProxy>>,
}

impl Equipped {
    async fn start(config: &Config, profile: Option<PathBuf>, secrets: Secrets, rules: EgressRules) -> Result<Self> {
        let mut settings = config.browser.clone();
        settings.profile = profile;
        let egress = wiring::egress(&mut settings, rules).await?.map(Arc::new);
        let browser = MeteredBrowser(BrowserEnvironment::launch(&settings, secrets).await?);
        metrics::counter!("milepost_browsers_started_total").increment(1);
        Ok(Self { browser, egress })
    }

    pub(super) fn browser(&mut self) -> &mut MeteredBrowser<BrowserEnvironment> {
        &mut self.browser
    }

    pub(super) fn egress(&self) -> Option<Arc<EgressProxy>> {
        self.egress.clone()
    }

    /// The tools beside the browser, behind the same proxy.
    pub(super) fn tools(&self, config: &Config) -> anyhow::Result<Vec<Arc<dyn Tool>>> {
        let mut config = config.clone();
        if let Some(egress) = &self.egress {
            config.browser.proxy = Some(egress.address().to_string());
        }
        wiring::tools(&config)
    }

    /// Ends it; gives how many connections were refused.
    pub(super) async fn give_back(mut self) -> u64 {
        if let Err(error) = self.browser.close().await {
            tracing::warn!(%error, "a browser was not closed cleanly");
        }
        self.egress.as_ref().map_or(0, |egress| egress.blocked().len() as u64)
    }
}

/// Where tasks get their browsers.
pub(super) struct Browsers {
    config: Config,
    spare: Mutex<VecDeque<Equipped>>,
    /// One is started at a time, beside what tasks start themselves.
    starting: tokio::sync::Mutex<()>,
}

impl Browsers {
    /// A source of browsers; it begins to start those that are kept ready.
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let browsers = Arc::new(Self { config: config.clone(), spare: Mutex::default(), starting: tokio::sync::Mutex::default() });
        browsers.refill();
        browsers
    }

    /// A browser for a task, open to its hosts.
    pub(super) async fn take(self: &Arc<Self>, task: &Task, profile: Option<&str>, secrets: Secrets) -> Result<Equipped> {
        let rules = EgressRules::parse(&task.capability.hosts)?;
        if let Some(name) = profile {
            // Leased to this task alone by the service; names are letters, digits, `-` and `_`.
            let kept = directory(&self.config).join("profiles").join(name);
            return Equipped::start(&self.config, Some(kept), secrets, rules).await;
        }
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.refill();
        match spare {
            None => Equipped::start(&self.config, None, secrets, rules).await,
            Some(mut spare) => {
                spare.browser.0.set_secrets(secrets);
                if let Some(egress) = &spare.egress {
                    egress.set_rules(rules);
                }
                Ok(spare)
            }
        }
    }

    /// Starts what is missing, after what is under way. A browser that died meanwhile is started again by its first task.
    fn refill(self: &Arc<Self>) {
        let browsers = Arc::downgrade(self);
        tokio::spawn(async move {
            let Some(browsers) = browsers.upgrade() else { return };
            let _one = browsers.starting.lock().await;
            while browsers.spare.lock().unwrap_or_else(PoisonError::into_inner).len() < browsers.config.serve.warm_browsers {
                match Equipped::start(&browsers.config, None, Secrets::default(), EgressRules::default()).await {
                    Ok(equipped) => browsers.spare.lock().unwrap_or_else(PoisonError::into_inner).push_back(equipped),
                    Err(error @ (Error::Environment(_) | Error::EnvironmentGone(_) | Error::BadInput(_))) => {
                        return tracing::warn!(%error, "no browser could be started ahead; tasks will try themselves");
                    }
                    Err(error) => return tracing::warn!(%error, "no browser could be started ahead"),
                }
            }
        });
    }
}
