//! The browser's settings, and the search for Chromium and ChromeDriver.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use milepost_runtime::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the browser (section `browser` of the configuration).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrowserConfig {
    /// Chromium's program; searched in `PATH` and the usual places when not given.
    pub chromium: Option<PathBuf>,
    /// ChromeDriver's program; searched in the same places when not given.
    pub chromedriver: Option<PathBuf>,
    /// The address (http) of a running WebDriver server, which is used in place of a browser started here.
    pub webdriver_url: Option<String>,
    /// Whether Chromium runs without a window.
    pub headless: bool,
    /// Whether Chromium runs without its sandbox: necessary for root, unwise for other users.
    pub no_sandbox: bool,
    /// The width and height of the page in CSS pixels.
    pub viewport: [u32; 2],
    /// The maximum time of a WebDriver call; milliseconds. A browser that takes longer hangs, and is killed.
    pub command_timeout_ms: u64,
    /// The maximum time to wait for a page to load; milliseconds.
    pub page_load_timeout_ms: u64,
    /// The time without changes after which a page counts as settled; milliseconds.
    pub settle_ms: u64,
    /// The maximum time to read one page; milliseconds. The rest of the page is left out then, and the observation is marked as truncated.
    pub read_ms: u64,
    /// The forward proxy (`host:port`) for all of the browser's traffic.
    pub proxy: Option<String>,
    /// The directory for the records of running browsers, by which a later process ends the browsers that a crashed one left.
    pub state_dir: Option<PathBuf>,
    /// The directory of a profile that is kept, so that the next run has the cookies and the storage of this one. When not given, each
    /// browser gets a new profile.
    pub profile: Option<PathBuf>,
    /// The maximum memory, in MiB, that the browser's processes may hold unshared. A browser that holds more is killed, and the run
    /// continues in a new one, at most once.
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
    /// Returns the directory for the records of running browsers: `state_dir`, else `$XDG_STATE_HOME/milepost/browsers`, else
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

    /// Returns the maximum time of a WebDriver call.
    pub(super) fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
    }

    /// Returns the maximum time of a call that may load a page.
    pub(super) fn navigation_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms + self.page_load_timeout_ms)
    }

    /// Checks that Chromium may run with its sandbox: Chromium itself refuses to run as root with a less clear message.
    ///
    /// # Errors
    /// The process runs as root, and the sandbox is not switched off.
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

/// A program with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

impl Program {
    /// Returns the major version, the first number of the version.
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
///
/// # Errors
/// There is no such program, or its version cannot be read.
pub(super) fn find_chromium(config: &BrowserConfig) -> Result<Program> {
    find("Chromium", "browser.chromium", config.chromium.as_deref(), &CHROMIUM_NAMES, "chromium")
}

/// Finds ChromeDriver.
///
/// # Errors
/// There is no such program, or its version cannot be read.
pub(super) fn find_chromedriver(config: &BrowserConfig) -> Result<Program> {
    find("ChromeDriver", "browser.chromedriver", config.chromedriver.as_deref(), &CHROMEDRIVER_NAMES, "chromium-driver")
}

/// Checks that driver and browser have the same major version: a ChromeDriver works with the Chromium of its own major version only.
///
/// # Errors
/// The major versions differ.
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

/// Finds a program at the configured path, or by its usual names, and asks it for its version. `key` and `package` are for the message of
/// an error.
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

/// Searches for the first of these names that is a file in `PATH` or the usual directories.
fn search(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/bin", "/usr/local/bin", "/snap/bin", "/opt/google/chrome"].map(PathBuf::from)).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|candidate| candidate.is_file()))
}

/// Runs the program with `--version` and returns the first word of its output that looks like a version.
fn version(path: &Path) -> Result<String, String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .ok_or_else(|| format!("`--version` printed {:?}", text.chars().take(120).collect::<String>()))
}
