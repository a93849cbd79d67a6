//! The capabilities of a new WebDriver session: Chromium's switches and preferences, and the time limits of the driver.

use std::path::Path;

use fantoccini::wd::Capabilities;
use serde_json::json;
use url::Url;

use super::config::BrowserConfig;

/// Switches of Chromium that do not depend on the configuration.
const SWITCHES: [&str; 20] = [
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
    // WebRTC sends no UDP past a proxy. Chromium ignores the switch `--force-webrtc-ip-handling-policy` (observed with 156).
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
];

/// Returns the capabilities to request. `own` has the profile and the program of a Chromium that is started here; a WebDriver server
/// elsewhere chooses its own.
pub(super) fn capabilities(config: &BrowserConfig, own: Option<(&Path, &Path)>) -> Capabilities {
    let mut arguments = switches(config);
    let mut options = json!({
        // No action downloads a file, so all downloads are refused.
        "prefs": { "download_restrictions": 3, "credentials_enable_service": false, "profile.password_manager_enabled": false },
    });
    if let Some((profile, chromium)) = own {
        arguments.push(format!("--user-data-dir={}", profile.display()));
        // With a pipe in place of a port, the browser ends when its driver does, and no other local process can control it.
        arguments.push("--remote-debugging-pipe".into());
        options["binary"] = json!(chromium);
    }
    options["args"] = json!(arguments);
    let wanted = json!({
        "browserName": "chrome",
        // The script that reads the page waits, for a limited time, for everything that loads after the document.
        "pageLoadStrategy": "eager",
        "unhandledPromptBehavior": "ignore",
        "timeouts": { "implicit": 0, "pageLoad": config.page_load_timeout_ms, "script": config.command_timeout_ms.saturating_sub(500).max(500) },
        "goog:chromeOptions": options,
    });
    wanted.as_object().cloned().unwrap_or_default()
}

/// Returns Chromium's switches for this configuration.
fn switches(config: &BrowserConfig) -> Vec<String> {
    let [width, height] = config.viewport;
    let mut arguments: Vec<String> = SWITCHES.map(str::to_owned).into();
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
        arguments.push(format!("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {}", proxy_host(proxy)));
    }
    arguments
}

/// Returns the host of a proxy's address, which may lack the scheme. It is the only name that the browser itself resolves.
fn proxy_host(proxy: &str) -> String {
    let address = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    Url::parse(&address).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "127.0.0.1".into())
}
