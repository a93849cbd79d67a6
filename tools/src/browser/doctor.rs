//! The checks of `milepost doctor` that concern the browser.

use milepost_runtime::Error;
use serde::Serialize;

use super::config::{BrowserConfig, check_pair, find_chromedriver, find_chromium, is_root};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub name: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The result in words.
    pub detail: String,
    /// The fix if the check failed; otherwise empty.
    pub fix: String,
}

impl Finding {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into(), fix: String::new() }
    }

    fn bad(name: &str, error: &Error) -> Self {
        let text = match error {
            Error::Environment(text) => text.clone(),
            other => other.to_string(),
        };
        let (detail, fix) = text.split_once("; ").map_or((text.as_str(), ""), |(detail, fix)| (detail, fix));
        Self { name: name.into(), ok: false, detail: detail.into(), fix: fix.into() }
    }
}

/// Checks what a browser needs: the programs, their versions, the sandbox. Chromium and ChromeDriver are run only to print their versions.
pub fn diagnose(config: &BrowserConfig) -> Vec<Finding> {
    if let Some(url) = &config.webdriver_url {
        return vec![Finding::good("browser", format!("driven through {url}"))];
    }
    let (chromium, driver) = (find_chromium(config), find_chromedriver(config));
    let mut findings = Vec::new();
    for (name, program) in [("chromium", &chromium), ("chromedriver", &driver)] {
        findings.push(match program {
            Ok(program) => Finding::good(name, format!("{} ({})", program.path.display(), program.version)),
            Err(error) => Finding::bad(name, error),
        });
    }
    if let (Ok(chromium), Ok(driver)) = (&chromium, &driver) {
        findings.push(match check_pair(chromium, driver) {
            Ok(()) => Finding::good("browser versions", format!("both {}", chromium.major())),
            Err(error) => Finding::bad("browser versions", &error),
        });
    }
    findings.push(match config.check_sandbox() {
        Ok(()) if config.no_sandbox => Finding::good(
            "browser sandbox",
            if is_root() { "off, as root needs it" } else { "off by `browser.no_sandbox`; not needed here" },
        ),
        Ok(()) => Finding::good("browser sandbox", "on"),
        Err(error) => Finding::bad("browser sandbox", &error),
    });
    findings
}
