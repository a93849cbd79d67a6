//! A real browser as an environment: Chromium through ChromeDriver (WebDriver), or any running WebDriver server.

mod act;
mod capabilities;
mod config;
mod doctor;
mod memory;
mod process;
mod session;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use milepost_runtime::{Action, Environment, Error, Observation, Outcome, Result, Secrets, Task};
use serde_json::{Value, json};

pub use config::BrowserConfig;
pub use doctor::{Finding, diagnose};
pub use process::reap_orphans;

use config::{check_pair, find_chromedriver, find_chromium};
use process::DriverProcess;
use session::{CallError, CallResult, Command, Session, Timeout};

const OBSERVE: &str = concat!("const limits = arguments[0];\n", include_str!("observe.js"), "\nreturn observe();");
const MASK_VALUES: &str = concat!(include_str!("act.js"), "\nreturn maskValues(arguments[0], arguments[1]);");
const CLEAR_STORAGE: &str = "try { localStorage.clear(); sessionStorage.clear(); } catch { /* an opaque origin has none */ }";

/// The maximum number of elements of an observation.
const MAX_ELEMENTS: u32 = 400;
/// The maximum number of characters of an observation's text.
const MAX_CHARACTERS: u32 = 20_000;
/// The maximum time to wait for a page's load event; milliseconds.
const LOAD_MS: u32 = 1_000;
/// The maximum time to wait for a navigation that has started; milliseconds.
const LEAVE_MS: u32 = 3_000;

/// The page as it was last observed.
#[derive(Debug, Default)]
struct Page {
    url: String,
    title: String,
    fingerprint: Option<String>,
}

/// An open tab.
#[derive(Debug)]
struct Tab {
    handle: String,
    title: String,
}

/// A browser as an environment. Dropping it ends all processes that were started for it.
#[derive(Debug)]
pub struct BrowserEnvironment {
    session: Session,
    config: BrowserConfig,
    secrets: Secrets,
    page: Page,
    /// The open tabs, the current one last.
    tabs: Vec<Tab>,
    /// Whether a dialog was open at the last observation.
    dialog: bool,
    /// The elements that a secret was typed into. Screenshots and observations hide their values, also after keys have changed them.
    secret_fields: HashSet<u32>,
    /// Whether an action may still be changing the page.
    unsettled: bool,
    /// Whether an episode has run in this browser.
    used: bool,
}

impl BrowserEnvironment {
    /// Replaces the secrets for the next episode in the same browser.
    pub fn set_secrets(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Ends the browsers that crashed processes left, and starts ChromeDriver and Chromium; or opens a session at `webdriver_url`.
    ///
    /// # Errors
    /// [`Error::Environment`]: a program is missing, the versions of the two programs differ, or the browser does not start.
    /// [`Error::BadInput`]: `webdriver_url` is not the address of a WebDriver server.
    pub async fn launch(config: &BrowserConfig, secrets: Secrets) -> Result<Self> {
        let session = match &config.webdriver_url {
            Some(url) => Session::connect(config, url).await?,
            None => start(config).await?,
        };
        let (page, tabs) = (Page::default(), Vec::new());
        Ok(Self {
            session,
            config: config.clone(),
            secrets,
            page,
            tabs,
            dialog: false,
            secret_fields: HashSet::new(),
            unsettled: false,
            used: false,
        })
    }

    /// Returns the process ids of the driver (first) and the browser. At a WebDriver server this is at most the browser's id.
    pub fn processes(&self) -> Vec<u32> {
        self.session.processes()
    }

    /// Removes everything of an earlier episode: other tabs, cookies, storage.
    async fn clear_episode(&mut self) -> CallResult<()> {
        self.dialog = true;
        self.dismiss_dialog().await?;
        while self.tabs.len() > 1 {
            self.session.call(Command::delete("window"), Timeout::Navigation).await?;
            self.tabs.pop();
            self.switch_to_last().await?;
        }
        for command in ["Network.clearBrowserCookies", "Network.clearBrowserCache"] {
            ignore_unsupported(self.session.devtools(command, json!({})).await)?;
        }
        ignore_unsupported(self.session.script(CLEAR_STORAGE, json!([]), Timeout::Navigation).await)?;
        self.secret_fields.clear();
        self.page = Page::default();
        Ok(())
    }

    /// Opens the task's first page.
    async fn open_start_page(&mut self, task: &Task) -> CallResult<()> {
        if std::mem::replace(&mut self.used, true) {
            self.clear_episode().await?;
        }
        self.open(&task.start_url).await?;
        // Behind a proxy the command succeeds even if the site is down: Chromium shows an error page of its own.
        let at = self.session.script("return location.href", json!([]), Timeout::Navigation).await;
        if at.is_ok_and(|at| at.as_str().is_some_and(|at| at.starts_with("chrome-error:"))) {
            return Err(CallError::Refused("no answer came".into()));
        }
        ignore_unsupported(self.session.devtools("Page.resetNavigationHistory", json!({})).await)?;
        self.page.url = task.start_url.to_string();
        Ok(())
    }

    /// Updates the list of tabs. A tab that has opened becomes the current one.
    async fn update_tabs(&mut self) -> CallResult<()> {
        let handles = self.session.call(Command::get("window/handles"), Timeout::Command).await?;
        let handles: Vec<&str> = handles.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let current = self.tabs.last().map(|tab| tab.handle.clone());
        let first = self.tabs.is_empty();
        self.tabs.retain(|tab| handles.contains(&tab.handle.as_str()));
        let opened: Vec<&str> = handles.into_iter().filter(|handle| self.tabs.iter().all(|tab| tab.handle != *handle)).collect();
        self.tabs.extend(opened.iter().map(|handle| Tab { handle: (*handle).to_owned(), title: String::new() }));
        let Some(last) = self.tabs.last() else { return Err(CallError::Gone("its last tab was closed".into())) };
        if !first && current.as_ref() != Some(&last.handle) {
            self.switch_to_last().await?;
            if !opened.is_empty() {
                self.session.prepare_tab().await?;
            }
        }
        Ok(())
    }

    async fn switch_to_last(&mut self) -> CallResult<()> {
        let Some(tab) = self.tabs.last() else { return Ok(()) };
        let handle = tab.handle.clone();
        self.session.call(Command::post("window", json!({ "handle": handle })), Timeout::Navigation).await.map(drop)
    }

    /// Reads the page.
    async fn read_page(&mut self, timeout: Timeout) -> CallResult<Observation> {
        self.update_tabs().await?;
        let quiet = if self.unsettled { self.config.settle_ms } else { 0 };
        let limits = json!({ "elements": MAX_ELEMENTS, "characters": MAX_CHARACTERS, "milliseconds": self.config.read_ms, "load": LOAD_MS, "quiet": quiet, "leave": LEAVE_MS });
        let seen = self.session.script(OBSERVE, json!([limits]), timeout).await?;
        // A script returns nothing if a dialog opens while it runs.
        let seen = seen.as_str().ok_or(CallError::Dialog)?;
        let mut seen: Observation =
            serde_json::from_str(seen).map_err(|error| CallError::Refused(format!("the page's observation cannot be read ({error})")))?;
        // On Chromium's own error page the document does not have the address that failed; the driver does.
        if seen.url.starts_with("chrome-error:") {
            seen.url = self.session.call(Command::get("url"), Timeout::Command).await?.as_str().unwrap_or_default().to_owned();
        }
        Ok(seen)
    }

    /// Returns the observation of an open dialog; `None` where the dialog has closed.
    async fn read_dialog(&mut self) -> CallResult<Option<Observation>> {
        match self.session.call(Command::get("alert/text"), Timeout::Navigation).await {
            Ok(text) => {
                self.dialog = true;
                let dialog = Some(text.as_str().unwrap_or_default().to_owned());
                Ok(Some(Observation { url: self.page.url.clone(), title: self.page.title.clone(), dialog, ..Observation::default() }))
            }
            Err(CallError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Completes an observation: hides secrets, adds the tabs, and compares it with the observation before.
    fn complete(&mut self, mut observation: Observation) -> Observation {
        self.page.url.clone_from(&observation.url);
        self.page.title.clone_from(&observation.title);
        if let Some(tab) = self.tabs.last_mut() {
            tab.title.clone_from(&observation.title);
        }
        if self.tabs.len() > 1 {
            observation.tabs = self.tabs.iter().rev().map(|tab| tab.title.clone()).collect();
        }
        self.secrets.scrub_page(&mut observation, &self.secret_fields);
        let fingerprint = format!("{} {}", observation.fingerprint(), observation.dialog.as_deref().unwrap_or_default());
        observation.changed = self.page.fingerprint.as_ref() != Some(&fingerprint);
        self.page.fingerprint = Some(fingerprint);
        observation
    }

    /// Takes a screenshot (PNG) in which fields with a secret show dots.
    async fn take_screenshot(&mut self) -> CallResult<Vec<u8>> {
        let masked: Vec<u32> = self.secret_fields.iter().copied().collect();
        if !masked.is_empty() {
            self.session.script(MASK_VALUES, json!([masked, "disc"]), Timeout::Navigation).await?;
        }
        let screenshot = self.session.call(Command::get("screenshot"), Timeout::Navigation).await;
        if !masked.is_empty() {
            ignore_unsupported(self.session.script(MASK_VALUES, json!([masked, ""]), Timeout::Navigation).await)?;
        }
        let screenshot = screenshot?;
        base64::engine::general_purpose::STANDARD
            .decode(screenshot.as_str().unwrap_or_default())
            .map_err(|error| CallError::Refused(format!("the screenshot cannot be read ({error})")))
    }
}

/// Starts ChromeDriver and Chromium and opens a session.
async fn start(config: &BrowserConfig) -> Result<Session> {
    config.check_sandbox()?;
    let (settings, state_dir) = (config.clone(), config.state_dir());
    let found = tokio::task::spawn_blocking(move || {
        match reap_orphans(&settings.state_dir()) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "ended browsers that a crash had left"),
            Err(error) => tracing::warn!(%error, dir = %settings.state_dir().display(), "cannot look for browsers that a crash left"),
        }
        let pair = (find_chromium(&settings)?, find_chromedriver(&settings)?);
        check_pair(&pair.0, &pair.1).map(|()| pair)
    });
    let (chromium, driver) = found.await.map_err(|error| Error::Environment(format!("looking for the browser failed: {error}")))??;
    if config.no_sandbox {
        tracing::warn!("Chromium runs without its sandbox (`browser.no_sandbox`): use it for pages you trust, or in a container");
    }
    let open = async || {
        let process = DriverProcess::start(&driver.path, &state_dir, config.profile.as_deref()).await?;
        Session::start(config, process, &chromium.path).await
    };
    match open().await {
        Err(error) => {
            // Chromium fails to start now and then on a busy machine.
            tracing::warn!(%error, "the browser did not start; trying once more");
            open().await
        }
        session => session,
    }
}

/// Ignores that a driver other than Chromium's does not support a command, and that the document was replaced.
fn ignore_unsupported(answer: CallResult<Value>) -> CallResult<()> {
    match answer {
        Ok(_) | Err(CallError::Refused(_) | CallError::Navigated) => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Environment for BrowserEnvironment {
    /// Removes everything of an earlier episode and opens the task's first page; in a new browser where the old one is gone.
    async fn reset(&mut self, task: &Task) -> Result<()> {
        if self.session.is_gone() {
            let secrets = std::mem::take(&mut self.secrets);
            *self = Self::launch(&self.config.clone(), secrets).await?;
        }
        self.open_start_page(task).await.map_err(|error| match error {
            CallError::Gone(reason) => Error::EnvironmentGone(reason),
            CallError::Refused(reason) => {
                Error::Environment(format!("cannot open {}: {reason}; check the address and that the site is up", task.start_url))
            }
            CallError::Slow => Error::Environment(format!(
                "{} did not load within {} ms; check that the site is up or raise `browser.page_load_timeout_ms`",
                task.start_url, self.config.page_load_timeout_ms
            )),
            other => other.into_error(),
        })
    }

    async fn observe(&mut self) -> Result<Observation> {
        let deadline = Instant::now() + self.config.navigation_timeout();
        // The call of an action has already waited for the page that the action led to. If reading that page fails, another page may be
        // loading.
        let mut timeout = Timeout::Command;
        loop {
            let error = match self.read_page(std::mem::replace(&mut timeout, Timeout::Navigation)).await {
                Ok(observation) => {
                    (self.dialog, self.unsettled) = (false, false);
                    return Ok(self.complete(observation));
                }
                Err(error) => error,
            };
            match error {
                CallError::Dialog => {
                    if let Some(observation) = self.read_dialog().await.map_err(CallError::into_error)? {
                        return Ok(self.complete(observation));
                    }
                }
                CallError::Navigated | CallError::Slow | CallError::NoWindow if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                CallError::Slow => {
                    // The driver still answers but the page does not: its script never ends, and only killing the browser stops it.
                    let limit = self.config.navigation_timeout().as_millis();
                    return Err(self
                        .session
                        .kill_unresponsive(format!("its page did not answer within {limit} ms and it was killed"))
                        .await
                        .into_error());
                }
                error => return Err(error.into_error()),
            }
        }
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        self.perform(action).await
    }

    fn scrubbed(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        match self.take_screenshot().await {
            Ok(png) => Ok(Some(png)),
            Err(CallError::Dialog | CallError::Navigated | CallError::NoWindow) => Ok(None),
            Err(error) => Err(error.into_error()),
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.session.close().await;
        Ok(())
    }
}
