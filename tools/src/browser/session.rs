//! A WebDriver session. Every call goes through [`Session::call`], which kills the browser when the call takes too long.

use std::path::Path;
use std::time::Duration;

use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use milepost_runtime::{Error, Result};
use serde_json::{Value, json};

use super::capabilities::capabilities;
use super::config::BrowserConfig;
use super::memory::MemoryWatchdog;
use super::process::{DriverProcess, kill_if_marked, marked_processes};

/// The maximum time to start a browser.
const NEW_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// The script that runs in every document before the document's own scripts.
const HOOK: &str = include_str!("hook.js");

/// The time limit of a call. Before and after most commands the driver itself waits for a page that is loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    /// No page is loading: `browser.command_timeout_ms`.
    Command,
    /// A page may be loading: `browser.page_load_timeout_ms` in addition.
    Navigation,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The browser or the driver died, or was killed because it hung.
    Gone(String),
    /// A JavaScript dialog is open.
    Dialog,
    /// The current tab was closed.
    NoWindow,
    /// The document was replaced while a script ran in it.
    Navigated,
    /// The page did not load in time, and the driver stopped it.
    Slow,
    /// Any other error of the driver.
    Refused(String),
}

impl CallError {
    /// Turns this into an error of the environment.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Gone(reason) => Error::EnvironmentGone(reason),
            Self::NoWindow => Error::EnvironmentGone("its last tab was closed".into()),
            Self::Dialog => Error::Environment("a JavaScript dialog keeps the page from answering; accept or dismiss it".into()),
            Self::Navigated => Error::Environment("the page keeps reloading itself; nothing can be read from it".into()),
            Self::Slow => {
                Error::Environment("the page did not load in time; raise `browser.page_load_timeout_ms` or check the site".into())
            }
            Self::Refused(reason) => Error::Environment(format!("the browser refused a command: {reason}")),
        }
    }
}

/// The result of a call.
pub(super) type CallResult<T> = std::result::Result<T, CallError>;

/// A WebDriver command. Its body is never printed, because it may hold a secret.
pub(super) struct Command {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Command {
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: None }
    }

    pub(super) fn post(path: &str, body: Value) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: Some(body) }
    }

    pub(super) fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, path: path.to_owned(), body: None }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> std::result::Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        match self.path.as_str() {
            "" => base.join(&format!("session/{session}")),
            path => base.join(&format!("session/{session}/{path}")),
        }
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

/// The driver of a session, by its origin.
#[derive(Debug)]
enum Driver {
    /// This process started the driver and the browser. The value is boxed because it is much larger than the other variant.
    Started(Box<DriverProcess>),
    /// The driver is the WebDriver server that the configuration names.
    Server { local: bool, pid: Option<u32>, profile: String },
}

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    driver: Driver,
    /// Why the browser is gone; `None` while it lives.
    gone: Option<String>,
    command_timeout: Duration,
    navigation_timeout: Duration,
    viewport: [u32; 2],
    /// Limits the browser's memory as long as the session lives.
    _watchdog: Option<MemoryWatchdog>,
}

impl Session {
    /// Starts a browser with this driver and opens a session.
    pub(super) async fn start(config: &BrowserConfig, mut process: DriverProcess, chromium: &Path) -> Result<Self> {
        let wanted = capabilities(config, Some((process.profile(), chromium)));
        let client = new_session(&process.url(), wanted, &format!("{}", chromium.display())).await?;
        if let Some(pid) = browser_pid(&client) {
            process.set_chromium(pid)?;
        }
        let watchdog = config.memory_mib.map(|limit| MemoryWatchdog::start(process.pid(), process.profile(), limit));
        let mut session = Self::new(config, client, Driver::Started(Box::new(process)));
        session._watchdog = watchdog;
        session.prepare_tab().await.map_err(CallError::into_error)?;
        Ok(session)
    }

    /// Whether the browser or the driver is known to be gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Opens a session at a running WebDriver server.
    pub(super) async fn connect(config: &BrowserConfig, server: &str) -> Result<Self> {
        let bad = |reason: &str| {
            Error::BadInput(format!("`browser.webdriver_url` {server:?} {reason}; give the server's address, as in http://127.0.0.1:9515"))
        };
        let mut url = url::Url::parse(server).map_err(|error| bad(&format!("cannot be read ({error})")))?;
        if url.scheme() != "http" {
            return Err(bad("is not http"));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let client = new_session(url.as_str(), capabilities(config, None), server).await?;
        let profile =
            client.capabilities().and_then(|all| all.get("chrome")?.get("userDataDir")?.as_str().map(str::to_owned)).unwrap_or_default();
        let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let driver = Driver::Server { local, pid: browser_pid(&client), profile };
        let mut session = Self::new(config, client, driver);
        session.prepare_tab().await.map_err(CallError::into_error)?;
        Ok(session)
    }

    fn new(config: &BrowserConfig, client: Client, driver: Driver) -> Self {
        Self {
            client,
            driver,
            gone: None,
            command_timeout: config.command_timeout(),
            navigation_timeout: config.navigation_timeout(),
            viewport: config.viewport,
            _watchdog: None,
        }
    }

    /// Sends one command. A command that exceeds its time limit kills the browser, because ChromeDriver can hang for ever on a page whose
    /// script never ends.
    pub(super) async fn call(&mut self, command: Command, timeout: Timeout) -> CallResult<Value> {
        if let Some(reason) = &self.gone {
            return Err(CallError::Gone(reason.clone()));
        }
        let limit = if timeout == Timeout::Command { self.command_timeout } else { self.navigation_timeout };
        let what = format!("{command:?}");
        match tokio::time::timeout(limit, self.client.issue_cmd(command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = classify(error);
                if let CallError::Gone(reason) = &error {
                    tracing::warn!(%what, %reason, "the browser is gone");
                    self.kill(reason.clone()).await;
                }
                Err(error)
            }
            Err(_) => {
                let reason = format!(
                    "it did not answer `{what}` within {} ms and was killed (a page that never stops its script does this)",
                    limit.as_millis()
                );
                tracing::warn!(%what, "the browser hangs");
                self.kill(reason.clone()).await;
                Err(CallError::Gone(reason))
            }
        }
    }

    /// Runs a script in the page: a function body that reads `arguments`.
    pub(super) async fn script(&mut self, script: &str, arguments: Value, timeout: Timeout) -> CallResult<Value> {
        self.call(Command::post("execute/sync", json!({ "script": script, "args": arguments })), timeout).await
    }

    /// Sends a command of the DevTools protocol, which only Chromium supports.
    pub(super) async fn devtools(&mut self, command: &str, parameters: Value) -> CallResult<Value> {
        self.call(Command::post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })), Timeout::Navigation).await
    }

    /// Sets up a new tab: its size, and the script that records click listeners.
    pub(super) async fn prepare_tab(&mut self) -> CallResult<()> {
        let [width, height] = self.viewport;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let commands =
            [("Page.addScriptToEvaluateOnNewDocument", json!({ "source": HOOK })), ("Emulation.setDeviceMetricsOverride", metrics)];
        for (command, parameters) in commands {
            // The tab may still be loading its first page, which can take long on a busy machine, so the command is repeated.
            let mut answer = self.devtools(command, parameters.clone()).await;
            for _ in 0..3 {
                if matches!(answer, Err(CallError::Slow | CallError::Navigated)) {
                    answer = self.devtools(command, parameters.clone()).await;
                }
            }
            match answer {
                Err(CallError::Refused(reason)) => tracing::debug!(command, reason, "not a Chromium; going on without"),
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Returns the process ids of the driver (first) and the browser, as far as this process knows them.
    pub(super) fn processes(&self) -> Vec<u32> {
        match &self.driver {
            Driver::Started(process) => {
                let mut pids = marked_processes(process.profile());
                pids.retain(|pid| *pid != process.pid());
                pids.insert(0, process.pid());
                pids
            }
            Driver::Server { pid, .. } => pid.iter().copied().collect(),
        }
    }

    /// Ends the session and every process that was started for it.
    pub(super) async fn close(&mut self) {
        // The browser writes a profile that is kept to disk only when it is closed by a command.
        let orderly = match &self.driver {
            Driver::Server { .. } => true,
            Driver::Started(process) => process.keeps_profile(),
        };
        if self.gone.is_none() && orderly {
            let _ = self.call(Command::delete(""), Timeout::Command).await;
        }
        self.kill("it was closed".into()).await;
    }

    /// Kills a browser whose driver answers but whose page does not. Returns the error for its caller.
    pub(super) async fn kill_unresponsive(&mut self, reason: String) -> CallError {
        tracing::warn!(%reason, "the page hangs");
        self.kill(reason.clone()).await;
        CallError::Gone(reason)
    }

    /// Records that the browser is gone, and kills its remaining processes.
    async fn kill(&mut self, reason: String) {
        self.gone.get_or_insert(reason);
        match &mut self.driver {
            // This blocks for a few milliseconds. A task of its own would not, but it could be dropped with its runtime before it is done.
            Driver::Started(process) => process.end(),
            Driver::Server { local: true, pid: Some(pid), profile } => kill_if_marked(*pid, profile),
            Driver::Server { .. } => {}
        }
    }
}

/// Requests a session with these capabilities from the driver at `url`. `browser` names the browser in the message of an error.
async fn new_session(url: &str, wanted: Capabilities, browser: &str) -> Result<Client> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    let mut builder = ClientBuilder::new(connector);
    builder.capabilities(wanted);
    match tokio::time::timeout(NEW_SESSION_TIMEOUT, builder.connect(url)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            Err(Error::Environment(format!(
                "the browser {browser} did not start: {reason}; run `milepost doctor`, or start it by hand to see why"
            )))
        }
        Err(_) => {
            Err(Error::Environment(format!("the browser {browser} did not start within {NEW_SESSION_TIMEOUT:?}; run `milepost doctor`")))
        }
    }
}

/// Returns the browser's process id, which Chromium's driver reports.
fn browser_pid(client: &Client) -> Option<u32> {
    client.capabilities()?.get("goog:processID")?.as_u64()?.try_into().ok()
}

/// Classifies an error of the driver. ChromeDriver has no error codes for some causes, which are recognised by their message.
fn classify(error: CmdError) -> CallError {
    let webdriver = match error {
        CmdError::Standard(webdriver) => webdriver,
        CmdError::Lost(error) => return CallError::Gone(format!("its driver does not answer ({error})")),
        CmdError::Failed(error) => return CallError::Gone(format!("its driver does not answer ({error})")),
        CmdError::FailedC(error) => return CallError::Gone(format!("its driver does not answer ({error})")),
        other => return CallError::Refused(other.to_string()),
    };
    let message = webdriver.message.lines().next().unwrap_or_default().to_owned();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match webdriver.error {
        ErrorStatus::InvalidSessionId | ErrorStatus::SessionNotCreated => CallError::Gone(message),
        ErrorStatus::NoSuchWindow => CallError::NoWindow,
        ErrorStatus::UnexpectedAlertOpen => CallError::Dialog,
        ErrorStatus::Timeout | ErrorStatus::ScriptTimeout => CallError::Slow,
        _ if says(&["disconnected", "not reachable", "session deleted", "crashed", "not connected to DevTools"]) => {
            CallError::Gone(message)
        }
        _ if says(&["unloaded", "navigat", "execution context", "context with specified id", "Inspected target", "loader has changed"]) => {
            CallError::Navigated
        }
        _ => CallError::Refused(message),
    }
}
