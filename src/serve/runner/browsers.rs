//! Browsers for tasks: a fresh profile each, or a named one; some are started before they are needed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use milepost_runtime::{Environment, Result, Secrets, Task, Tool};
use milepost_tools::browser::BrowserEnvironment;
use milepost_tools::egress::{EgressProxy, EgressRules};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::serve::directory;
use crate::serve::metered::MeteredBrowser;
use crate::wiring;

/// Cores that a task keeps busy: one in the model, one in the browser.
const CORES_OF_A_TASK: usize = 2;

/// A browser behind its own egress proxy; both end when it is dropped.
pub(super) struct Equipped {
    browser: MeteredBrowser<BrowserEnvironment>,
    egress: Option<Arc<EgressProxy>>,
    /// Set while a task has it; the last of its fields, so that it is over before the next is started.
    _lent: Option<Lent>,
}

impl Equipped {
    async fn start(config: &Config, profile: Option<PathBuf>, secrets: Secrets, rules: EgressRules) -> Result<Self> {
        let mut settings = config.browser.clone();
        settings.profile = profile;
        let egress = wiring::egress(&mut settings, rules).await?.map(Arc::new);
        let browser = MeteredBrowser(BrowserEnvironment::launch(&settings, secrets).await?);
        metrics::counter!("milepost_browsers_started_total").increment(1);
        Ok(Self { browser, egress, _lent: None })
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

/// A task that has a browser; at its end browsers are made ready again.
struct Lent(Arc<Browsers>);

impl Lent {
    fn new(browsers: &Arc<Browsers>) -> Self {
        browsers.lent.fetch_add(1, Ordering::SeqCst);
        Self(browsers.clone())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lent.fetch_sub(1, Ordering::SeqCst);
        self.0.refill();
    }
}

/// Where tasks get their browsers.
pub(super) struct Browsers {
    config: Config,
    spare: Mutex<VecDeque<Equipped>>,
    /// Tasks that have a browser.
    lent: AtomicUsize,
    /// One is started at a time, beside what tasks start themselves.
    starting: tokio::sync::Mutex<()>,
}

impl Browsers {
    /// A source of browsers; it begins to start those that are kept ready.
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let browsers = Arc::new(Self {
            config: config.clone(),
            spare: Mutex::default(),
            lent: AtomicUsize::new(0),
            starting: tokio::sync::Mutex::default(),
        });
        browsers.refill();
        browsers
    }

    /// A browser for a task, open to its hosts.
    pub(super) async fn take(self: &Arc<Self>, task: &Task, profile: Option<&str>, secrets: Secrets) -> Result<Equipped> {
        let lent = Lent::new(self);
        let rules = EgressRules::parse(&task.capability.hosts)?;
        // Leased to this task alone by the service; names are letters, digits, `-` and `_`.
        let kept = profile.map(|name| directory(&self.config).join("profiles").join(name));
        let spare = if kept.is_none() { self.spare().pop_front() } else { None };
        metrics::gauge!("milepost_browsers_ready").set(self.spare().len() as f64);
        let mut equipped = match spare {
            None => Equipped::start(&self.config, kept, secrets, rules).await?,
            Some(mut spare) => {
                spare.browser.0.set_secrets(secrets);
                if let Some(egress) = &spare.egress {
                    egress.set_rules(rules);
                }
                spare
            }
        };
        equipped._lent = Some(lent);
        self.refill();
        Ok(equipped)
    }

    fn spare(&self) -> MutexGuard<'_, VecDeque<Equipped>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a browser may be started ahead: one is missing, and no running task would wait for the cores that its start takes.
    fn may_start(&self) -> bool {
        let cores = available_parallelism().map_or(1, usize::from);
        let free = (self.lent.load(Ordering::SeqCst) + 1) * CORES_OF_A_TASK <= cores.max(CORES_OF_A_TASK);
        free && self.spare().len() < self.config.serve.warm_browsers
    }

    /// Starts what is missing, after what is under way. A browser that died meanwhile is started again by its first task.
    fn refill(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let browsers = Arc::downgrade(self);
        runtime.spawn(async move {
            let Some(browsers) = browsers.upgrade() else { return };
            let _one = browsers.starting.lock().await;
            while browsers.may_start() {
                match Equipped::start(&browsers.config, None, Secrets::default(), EgressRules::default()).await {
                    Ok(equipped) => {
                        let mut spare = browsers.spare();
                        spare.push_back(equipped);
                        metrics::gauge!("milepost_browsers_ready").set(spare.len() as f64);
                    }
                    Err(error) => return tracing::warn!(%error, "no browser could be started ahead; tasks will try themselves"),
                }
            }
        });
    }
}
