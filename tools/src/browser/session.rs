//! One WebDriver session: every call goes through [`Session::call`], which has a deadline and kills what misses it.

use std::path::Path;
use std::time::Duration;

use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use milepost_runtime::{Error, Result};
use serde_json::{Value, json};

use super::config::BrowserConfig;
use super::memory::MemoryWatch;
use super::process::{DriverProcess, kill_foreign};

const NEW_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const HOOK: &str = include_str!("hook.js");

/// How long a call may take: navigation is waited for by the driver itself, before and after most commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// No page is loading.
    Page,
    /// A page may be loading.
    Navigation,
}

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum CallError {
    /// Browser or driver died, or was killed because it hung.
    Gone(String),
    /// A JavaScript dialog is in the way.
    Dialog,
    /// The current tab was closed.
    NoWindow,
    /// The document went away while a script ran in it.
    Navigated,
    /// The page did not load in time; the driver stopped it.
    Slow,
    /// Anything else that the driver says.
    Refused(String),
}

impl CallError {
    /// As an error of the environment.
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

pub(super) type CallResult<T> = std::result::Result<T, CallError>;

/// A WebDriver command of any kind. Its body is never printed: it may hold a secret.
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

/// Whose processes the browser's are.
#[derive(Debug)]
enum Owner {
    /// Started here; boxed, for it is much the larger.
    Us(Box<DriverProcess>),
    /// Started by a server that was named in the configuration.
    Server { local: bool, pid: Option<u32>, profile: String },
}

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    owner: Owner,
    gone: Option<String>,
    command: Duration,
    navigation: Duration,
    viewport: [u32; 2],
    /// Watches the browser's memory for as long as the session lives.
    _watch: Option<MemoryWatch>,
}

impl Session {
    /// Opens a session on a driver that was started for it.
    pub(super) async fn start(config: &BrowserConfig, mut process: DriverProcess, chromium: &Path) -> Result<Self> {
        let wanted = capabilities(config, Some((process.profile(), chromium)));
        let client = connect(&process.url(), wanted, &format!("{}", chromium.display())).await?;
        if let Some(pid) = browser_pid(&client) {
            process.set_chromium(pid)?;
        }
        let watch = config.memory_mib.map(|limit| MemoryWatch::start(process.pid(), process.profile(), limit));
        let mut session = Self::new(config, client, Owner::Us(Box::new(process)));
        session._watch = watch;
        session.prepare_tab().await.map_err(CallError::into_error)?;
        Ok(session)
    }

    /// Whether browser or driver are known to be dead.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Opens a session on a running WebDriver server.
    pub(super) async fn join(config: &BrowserConfig, server: &str) -> Result<Self> {
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
        let client = connect(url.as_str(), capabilities(config, None), server).await?;
        let profile =
            client.capabilities().and_then(|all| all.get("chrome")?.get("userDataDir")?.as_str().map(str::to_owned)).unwrap_or_default();
        let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let owner = Owner::Server { local, pid: browser_pid(&client), profile };
        let mut session = Self::new(config, client, owner);
        session.prepare_tab().await.map_err(CallError::into_error)?;
        Ok(session)
    }

    fn new(config: &BrowserConfig, client: Client, owner: Owner) -> Self {
        Self {
            client,
            owner,
            gone: None,
            command: config.command_timeout(),
            navigation: config.navigation_timeout(),
            viewport: config.viewport,
            _watch: None,
        }
    }

    /// Sends one command. A deadline that passes kills the browser: ChromeDriver can hang for ever on a page that spins.
    pub(super) async fn call(&mut self, command: Command, patience: Patience) -> CallResult<Value> {
        if let Some(reason) = &self.gone {
            return Err(CallError::Gone(reason.clone()));
        }
        let limit = if patience == Patience::Page { self.command } else { self.navigation };
        let what = format!("{command:?}");
        match tokio::time::timeout(limit, self.client.issue_cmd(command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = classify(error);
                if let CallError::Gone(reason) = &error {
                    tracing::warn!(%what, %reason, "the browser is gone");
                    self.bury(reason.clone()).await;
                }
                Err(error)
            }
            Err(_) => {
                let reason = format!(
                    "it did not answer `{what}` within {} ms and was killed (a page that never stops its script does this)",
                    limit.as_millis()
                );
                tracing::warn!(%what, "the browser hangs");
                self.bury(reason.clone()).await;
                Err(CallError::Gone(reason))
            }
        }
    }

    /// Runs a script: a function body that reads `arguments`.
    pub(super) async fn script(&mut self, script: &str, arguments: Value, patience: Patience) -> CallResult<Value> {
        self.call(Command::post("execute/sync", json!({ "script": script, "args": arguments })), patience).await
    }

    /// Sends a command of the DevTools protocol, which only Chromium has.
    pub(super) async fn devtools(&mut self, command: &str, parameters: Value) -> CallResult<Value> {
        self.call(Command::post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })), Patience::Navigation).await
    }

    /// Makes a new tab ready: its size, and the hook that sees click listeners.
    pub(super) async fn prepare_tab(&mut self) -> CallResult<()> {
        let [width, height] = self.viewport;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let commands =
            [("Page.addScriptToEvaluateOnNewDocument", json!({ "source": HOOK })), ("Emulation.setDeviceMetricsOverride", metrics)];
        for (command, parameters) in commands {
            // A tab may still be loading what it opened with, however long that takes on a busy machine.
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

    /// The processes of a browser that was started here.
    pub(super) fn processes(&self) -> Vec<u32> {
        match &self.owner {
            Owner::Us(process) => {
                let mut pids = super::process::marked(process.profile());
                pids.retain(|pid| *pid != process.pid());
                pids.insert(0, process.pid());
                pids
            }
            Owner::Server { pid, .. } => pid.iter().copied().collect(),
        }
    }

    /// Ends the session and every process that was started for it.
    pub(super) async fn close(&mut self) {
        // A profile that is kept is written by an orderly end only.
        let orderly = match &self.owner {
            Owner::Server { .. } => true,
            Owner::Us(process) => process.keeps_profile(),
        };
        if self.gone.is_none() && orderly {
            let _ = self.call(Command::delete(""), Patience::Page).await;
        }
        self.bury("it was closed".into()).await;
    }

    /// Kills a browser whose driver answers but whose page does not.
    pub(super) async fn give_up(&mut self, reason: String) -> CallError {
        tracing::warn!(%reason, "the page hangs");
        self.bury(reason.clone()).await;
        CallError::Gone(reason)
    }

    async fn bury(&mut self, reason: String) {
        self.gone.get_or_insert(reason);
        match &mut self.owner {
            // A few milliseconds of blocking, and certain: a task for it could be dropped with its runtime.
            Owner::Us(process) => process.end(),
            Owner::Server { local: true, pid: Some(pid), profile } => kill_foreign(*pid, profile),
            Owner::Server { .. } => {}
        }
    }
}

async fn connect(url: &str, wanted: Capabilities, browser: &str) -> Result<Client> {
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

fn browser_pid(client: &Client) -> Option<u32> {
    client.capabilities()?.get("goog:processID")?.as_u64()?.try_into().ok()
}

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

fn capabilities(config: &BrowserConfig, own: Option<(&Path, &Path)>) -> Capabilities {
    let [width, height] = config.viewport;
    let mut arguments: Vec<String> = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-breakpad",
        "--disable-dev-shm-usage",
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
        "--disable-features=BackForwardCache,RenderDocument,PaintHolding,Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication",
        "--metrics-recording-only",
        "--mute-audio",
        "--password-store=basic",
        "--use-mock-keychain",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--window-size={width},{height}"));
    if config.headless {
        arguments.push("--headless=new".into());
    }
    if config.no_sandbox {
        arguments.push("--no-sandbox".into());
    }
    if let Some(proxy) = &config.proxy {
        arguments.push(format!("--proxy-server={proxy}"));
        arguments.push("--proxy-bypass-list=<-loopback>".into());
        arguments.push("--force-webrtc-ip-handling-policy=disable_non_proxied_udp".into());
    }
    let mut options = json!({
        // Downloads are not among the actions: all are refused.
        "prefs": { "download_restrictions": 3, "credentials_enable_service": false, "profile.password_manager_enabled": false },
    });
    if let Some((profile, chromium)) = own {
        arguments.push(format!("--user-data-dir={}", profile.display()));
        // Through a pipe the browser ends with its driver, and no port is open to others.
        arguments.push("--remote-debugging-pipe".into());
        options["binary"] = json!(chromium);
    }
    options["args"] = json!(arguments);
    let wanted = json!({
        "browserName": "chrome",
        // The observation itself waits, for a bounded time, for what comes after the document.
        "pageLoadStrategy": "eager",
        "unhandledPromptBehavior": "ignore",
        "timeouts": { "implicit": 0, "pageLoad": config.page_load_timeout_ms, "script": config.command_timeout_ms.saturating_sub(500).max(500) },
        "goog:chromeOptions": options,
    });
    wanted.as_object().cloned().unwrap_or_default()
}
