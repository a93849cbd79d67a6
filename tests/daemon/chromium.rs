//! A browser in which a test plays the person: Chromium over plain WebDriver, with its keyboard, network log and media settings.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The maximum time that a test waits for a page.
const TIMEOUT: Duration = Duration::from_secs(120);

// The codes of keys in WebDriver.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const RIGHT: &str = "\u{E014}";
pub const LEFT: &str = "\u{E012}";
pub const END: &str = "\u{E010}";

/// A running browser. Dropping it ends the browser.
pub struct Chromium {
    driver: Child,
    session: String,
    http: reqwest::Client,
    /// The addresses that its pages have requested, as far as the log was read.
    requested: HashSet<String>,
}

impl Chromium {
    /// Starts a browser with an empty profile.
    pub async fn start(directory: &Path) -> Self {
        let mut command = Command::new("chromedriver");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut driver = command.arg("--port=0").env("TMPDIR", directory).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.by_ref().find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        let base = format!("http://127.0.0.1:{}/session", port.unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" }, "unhandledPromptBehavior": "accept" } } });
        let created: Value = http.post(&base).json(&capabilities).send().await.unwrap().json().await.unwrap();
        let id = created["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{created}"));
        Self { driver, session: format!("{base}/{id}"), http, requested: HashSet::new() }
    }

    /// Sends a WebDriver command, which must succeed, and returns its value.
    async fn call(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.call("url", json!({ "url": url })).await;
    }

    /// Evaluates a JavaScript expression in the page.
    pub async fn eval(&self, expression: &str) -> Value {
        self.call("execute/sync", json!({ "script": format!("return {expression};"), "args": [] })).await
    }

    /// Waits until a JavaScript expression is true, across navigations.
    pub async fn wait_until(&self, expression: &str) {
        let (began, body) = (Instant::now(), json!({ "script": format!("return !!({expression});"), "args": [] }));
        loop {
            let answer = self.http.post(format!("{}/execute/sync", self.session)).json(&body).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            if answer["value"] == true {
                return;
            }
            if began.elapsed() > TIMEOUT {
                panic!("{expression} did not become true: {answer}\n{}", self.text("body").await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the text of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Presses these keys, one after another.
    pub async fn press(&self, keys: &str) {
        let stroke =
            |key: char| [json!({ "type": "keyDown", "value": key.to_string() }), json!({ "type": "keyUp", "value": key.to_string() })];
        let strokes: Vec<Value> = keys.chars().flat_map(stroke).collect();
        self.call("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).await;
    }

    /// Presses the tab key until this element has the focus, and checks that the focus is visible.
    pub async fn tab_to(&self, selector: &str) {
        for _ in 0..80 {
            self.press(TAB).await;
            let focused = self.eval(&format!("document.activeElement?.matches({})", json!(selector))).await;
            if focused == true {
                let is_visible = self.eval(
                    "document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none'",
                );
                assert_eq!(is_visible.await, true, "the focus on {selector} is not visible");
                return;
            }
        }
        panic!("the tab key does not reach {selector}\n{}", self.text("body").await);
    }

    /// Sets the size of the screen in CSS pixels.
    pub async fn set_screen_size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sets the color scheme that the person prefers, `light` or `dark`.
    pub async fn set_color_scheme(&self, scheme: &str) {
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] })).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.call("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
    }

    /// Returns all addresses that its pages have requested since it started.
    pub async fn requested_urls(&mut self) -> &HashSet<String> {
        let log = self.call("se/log", json!({ "type": "performance" })).await;
        for entry in log.as_array().unwrap() {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] == "Network.requestWillBeSent" {
                self.requested.insert(message["message"]["params"]["request"]["url"].as_str().unwrap().to_owned());
            }
        }
        &self.requested
    }

    /// Returns the errors on its console, which include violations of the content security policy.
    pub async fn console_errors(&self) -> Vec<String> {
        let log = self.call("se/log", json!({ "type": "browser" })).await;
        let severe = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.driver.id())]).status();
        let _ = self.driver.wait();
    }
}
