//! The browser's settings, and how Chromium and ChromeDriver are found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the browser (section `browser` of the configuration).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrowserConfig {
    /// Chromium's program; looked for in `PATH` and the usual places when not given.
    pub chromium: Option<PathBuf>,
    /// ChromeDriver's program; looked for likewise.
    pub chromedriver: Option<PathBuf>,
    /// Address of a running WebDriver server (http); nothing is started then.
    pub webdriver_url: Option<String>,
    /// Run without a window.
    pub headless: bool,
    /// Run Chromium without its sandbox: needed as root, unwise anywhere else.
    pub no_sandbox: bool,
    /// Width and height of the page in CSS pixels.
    pub viewport: [u32; 2],
    /// A WebDriver call that takes longer means a hung browser, which is killed; milliseconds.
    pub command_timeout_ms: u64,
    /// Longest wait for a page to load; milliseconds.
    pub page_load_timeout_ms: u64,
    /// A page is settled after so many quiet milliseconds.
    pub settle_ms: u64,
    /// Longest reading of one page; milliseconds. What was not read by then is left out, and the observation says so.
    pub read_ms: u64,
    /// Forward proxy (`host:port`) that all of the browser's traffic goes through.
    pub proxy: Option<String>,
    /// Where running browsers are written down, so that a later start can end those of a crashed one.
    pub state_dir: Option<PathBuf>,
    /// A profile that is kept: cookies and storage of one run are there in the next. A fresh one each time where none is given.
    pub profile: Option<PathBuf>,
    /// A browser whose processes hold more memory of their own than so many MiB is ended; the run goes on in a new one, once.
    pub memory_mib: Option<u64>,
}

impl Default for BrowserConfig {
    fn default() -> Self {
        Self {
            chromium: None,
            chromedriver: None,
            webdriver_url: None,
            headless: true,
            no_sandbox: false,
            viewport: [1280, 900],
            command_timeout_ms: 10_000,
            page_load_timeout_ms: 20_000,
            settle_ms: 12,
            read_ms: 200,
            proxy: None,
            state_dir: None,
            profile: None,
            memory_mib: Some(2048),
        }
    }
}

impl BrowserConfig {
    /// The directory of running browsers: `state_dir`, else `$XDG_STATE_HOME/milepost/browsers`, else
    /// `~/.local/state/milepost/browsers`.
    pub fn state_dir(&self) -> PathBuf {
        let base = || {
            std::env::var_os("XDG_STATE_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
                .unwrap_or_else(std::env::temp_dir)
        };
        self.state_dir.clone().unwrap_or_else(|| base().join("milepost/browsers"))
    }

    /// How long one WebDriver call may take.
    pub(super) fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
    }

    /// How long a call that loads a page may take.
    pub(super) fn navigation_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms + self.page_load_timeout_ms)
    }

    /// Refuses what Chromium would refuse less clearly.
    pub(super) fn check_sandbox(&self) -> Result<()> {
        if self.webdriver_url.is_none() && !self.no_sandbox && is_root() {
            return Err(Error::Environment(
                "Chromium does not run as root with its sandbox; run as another user, or set `browser.no_sandbox: true` (pages then run without that protection)".into(),
            ));
        }
        Ok(())
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A program that was found, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

impl Program {
    /// The first number of the version.
    pub(super) fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or_default()
    }
}

const CHROMIUM_NAMES: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const CHROMEDRIVER_NAMES: [&str; 3] = ["chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver"];

/// Finds Chromium.
pub(super) fn find_chromium(config: &BrowserConfig) -> Result<Program> {
    find("Chromium", "browser.chromium", config.chromium.as_deref(), &CHROMIUM_NAMES, "chromium")
}

/// Finds ChromeDriver.
pub(super) fn find_chromedriver(config: &BrowserConfig) -> Result<Program> {
    find("ChromeDriver", "browser.chromedriver", config.chromedriver.as_deref(), &CHROMEDRIVER_NAMES, "chromium-driver")
}

/// Refuses a driver and a browser of different major versions: ChromeDriver drives its own only.
pub(super) fn check_pair(chromium: &Program, driver: &Program) -> Result<()> {
    if chromium.major() == driver.major() {
        return Ok(());
    }
    Err(Error::Environment(format!(
        "{} is version {} but {} is version {}; their major versions must be the same: upgrade both together (Debian: `apt-get install chromium chromium-driver`) or name a matching pair in `browser.chromium` and `browser.chromedriver`",
        chromium.path.display(),
        chromium.version,
        driver.path.display(),
        driver.version
    )))
}

fn find(what: &str, key: &str, given: Option<&Path>, names: &[&str], package: &str) -> Result<Program> {
    let path = match given {
        Some(path) if path.is_file() => path.to_owned(),
        Some(path) => {
            return Err(Error::Environment(format!("`{key}` names {}, which is no file; correct or remove the key", path.display())));
        }
        None => search(names).ok_or_else(|| {
            Error::Environment(format!(
                "{what} was not found in PATH or the usual places; install it (Debian: `apt-get install {package}`) or name it in `{key}`"
            ))
        })?,
    };
    let version = version(&path).map_err(|reason| {
        Error::Environment(format!("{} does not tell its version: {reason}; reinstall {what} or name another in `{key}`", path.display()))
    })?;
    Ok(Program { path, version })
}

fn search(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/bin", "/usr/local/bin", "/snap/bin", "/opt/google/chrome"].map(PathBuf::from)).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|candidate| candidate.is_file()))
}

fn version(path: &Path) -> Result<String, String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .ok_or_else(|| format!("`--version` printed {:?}", text.chars().take(120).collect::<String>()))
}
