//! A pool of browsers for tasks: each task gets a fresh profile, or a named one. Some browsers are started before they are needed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use milepost_runtime::{Environment, Result, Secrets, Task, Tool};
use milepost_tools::browser::{BrowserConfig, BrowserEnvironment};
use milepost_tools::egress::{EgressProxy, EgressRules};
use tokio::runtime::Handle;

use super::metered::MeteredBrowser;
use super::settings::RunnerSettings;
use crate::browser;

/// The number of cores that a task keeps busy: one with the model, one with the browser.
const CORES_OF_A_TASK: usize = 2;

/// A browser behind its own egress proxy; both end when it is dropped.
pub(super) struct LeasedBrowser {
    environment: MeteredBrowser<BrowserEnvironment>,
    egress: Option<Arc<EgressProxy>>,
    /// The address of the proxy that the browser is behind.
    proxy: Option<String>,
    /// Set while a task has the browser. It is the last field, because fields are dropped in order: the browser must have ended before the lease
    /// starts the next one.
    _lease: Option<Lease>,
}

impl LeasedBrowser {
    async fn start(config: &BrowserConfig, profile: Option<PathBuf>, secrets: Secrets, rules: EgressRules) -> Result<Self> {
        let mut config = BrowserConfig { profile, ..config.clone() };
        let egress = browser::confine(&mut config, rules).await?.map(Arc::new);
        let environment = MeteredBrowser(BrowserEnvironment::launch(&config, secrets).await?);
        metrics::counter!("milepost_browsers_started_total").increment(1);
        Ok(Self { environment, egress, proxy: config.proxy, _lease: None })
    }

    pub(super) fn environment(&mut self) -> &mut MeteredBrowser<BrowserEnvironment> {
        &mut self.environment
    }

    pub(super) fn egress(&self) -> Option<Arc<EgressProxy>> {
        self.egress.clone()
    }

    /// Creates the tools beside the browser, behind the same proxy.
    pub(super) fn tools(&self) -> Result<Vec<Arc<dyn Tool>>> {
        browser::tools(self.proxy.as_deref())
    }

    /// Closes the browser. Returns the number of connections that were refused.
    pub(super) async fn close(mut self) -> u64 {
        if let Err(error) = self.environment.close().await {
            tracing::warn!(%error, "a browser was not closed cleanly");
        }
        self.egress.as_ref().map_or(0, |egress| egress.blocked().len() as u64)
    }
}

/// Counts a task that has a browser; when it is dropped, the pool is refilled.
struct Lease(Arc<BrowserPool>);

impl Lease {
    fn new(pool: &Arc<BrowserPool>) -> Self {
        pool.leased.fetch_add(1, Ordering::SeqCst);
        Self(pool.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leased.fetch_sub(1, Ordering::SeqCst);
        self.0.refill();
    }
}

/// The pool of browsers.
pub(super) struct BrowserPool {
    browser: BrowserConfig,
    profiles: PathBuf,
    /// The number of browsers that are kept ready.
    warm: usize,
    spare: Mutex<VecDeque<LeasedBrowser>>,
    /// The number of tasks that have a browser.
    leased: AtomicUsize,
    /// Held while a spare browser is started, so that one is started at a time.
    starting: tokio::sync::Mutex<()>,
}

impl BrowserPool {
    /// Creates a pool and begins to start the browsers that are kept ready.
    pub(super) fn new(settings: &RunnerSettings) -> Arc<Self> {
        let pool = Arc::new(Self {
            browser: settings.run.browser.clone(),
            profiles: settings.profiles.clone(),
            warm: settings.warm_browsers,
            spare: Mutex::default(),
            leased: AtomicUsize::new(0),
            starting: tokio::sync::Mutex::default(),
        });
        pool.refill();
        pool
    }

    /// Takes or starts a browser for a task, whose egress proxy is open to the task's hosts.
    pub(super) async fn take(self: &Arc<Self>, task: &Task, profile: Option<&str>, secrets: Secrets) -> Result<LeasedBrowser> {
        let lease = Lease::new(self);
        let rules = EgressRules::parse(&task.capability.hosts)?;
        // The service lets one task at a time use a named profile; names consist of letters, digits, `-` and `_`.
        let profile = profile.map(|name| self.profiles.join(name));
        let spare = if profile.is_none() { self.spare().pop_front() } else { None };
        metrics::gauge!("milepost_browsers_ready").set(self.spare().len() as f64);
        let mut browser = match spare {
            None => LeasedBrowser::start(&self.browser, profile, secrets, rules).await?,
            Some(mut spare) => {
                spare.environment.0.set_secrets(secrets);
                if let Some(egress) = &spare.egress {
                    egress.set_rules(rules);
                }
                spare
            }
        };
        browser._lease = Some(lease);
        self.refill();
        Ok(browser)
    }

    fn spare(&self) -> MutexGuard<'_, VecDeque<LeasedBrowser>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a spare browser may be started: one is missing, and no running task would wait for the cores that its start takes.
    fn may_start(&self) -> bool {
        let cores = available_parallelism().map_or(1, usize::from);
        let free = (self.leased.load(Ordering::SeqCst) + 1) * CORES_OF_A_TASK <= cores.max(CORES_OF_A_TASK);
        free && self.spare().len() < self.warm
    }

    /// Starts the spare browsers that are missing, in the background. A spare browser that died is started again by its first task.
    fn refill(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = Arc::downgrade(self);
        runtime.spawn(async move {
            let Some(pool) = pool.upgrade() else { return };
            let _one = pool.starting.lock().await;
            while pool.may_start() {
                match LeasedBrowser::start(&pool.browser, None, Secrets::default(), EgressRules::default()).await {
                    Ok(browser) => {
                        let mut spare = pool.spare();
                        spare.push_back(browser);
                        metrics::gauge!("milepost_browsers_ready").set(spare.len() as f64);
                    }
                    Err(error) => return tracing::warn!(%error, "no browser could be started ahead; tasks will try themselves"),
                }
            }
        });
    }
}
