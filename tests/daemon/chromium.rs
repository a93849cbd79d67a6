//! A person's browser: Chromium over plain WebDriver, with its keyboard, its network log and its media settings.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

/// Keys as WebDriver names them.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const RIGHT: &str = "\u{E014}";
pub const LEFT: &str = "\u{E012}";
pub const END: &str = "\u{E010}";

/// A running browser; it ends when dropped.
pub struct Chromium {
    driver: Child,
    session: String,
    http: reqwest::Client,
    /// All that its pages asked for.
    asked: HashSet<String>,
}

impl Chromium {
    /// Starts one with a fresh profile.
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
        let asked = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" }, "unhandledPromptBehavior": "accept" } } });
        let made: Value = http.post(&base).json(&asked).send().await.unwrap().json().await.unwrap();
        let id = made["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{made}"));
        Self { driver, session: format!("{base}/{id}"), http, asked: HashSet::new() }
    }

    async fn call(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.call("url", json!({ "url": url })).await;
    }

    /// The value of an expression in the page.
    pub async fn eval(&self, expression: &str) -> Value {
        self.call("execute/sync", json!({ "script": format!("return {expression};"), "args": [] })).await
    }

    /// Waits until an expression is true; navigations in between are no matter.
    pub async fn until(&self, expression: &str) {
        let (began, body) = (Instant::now(), json!({ "script": format!("return !!({expression});"), "args": [] }));
        loop {
            let answer = self.http.post(format!("{}/execute/sync", self.session)).json(&body).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            if answer["value"] == true {
                return;
            }
            if began.elapsed() > PATIENCE {
                panic!("{expression} did not come true: {answer}\n{}", self.text("body").await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The text of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after another.
    pub async fn press(&self, keys: &str) {
        let stroke =
            |key: char| [json!({ "type": "keyDown", "value": key.to_string() }), json!({ "type": "keyUp", "value": key.to_string() })];
        let strokes: Vec<Value> = keys.chars().flat_map(stroke).collect();
        self.call("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).await;
    }

    /// Goes forward with the tab key until this element has the focus, which must show.
    pub async fn tab_to(&self, selector: &str) {
        for _ in 0..80 {
            self.press(TAB).await;
            let focused = self.eval(&format!("document.activeElement?.matches({})", json!(selector))).await;
            if focused == true {
                let shown = self.eval(
                    "document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none'",
                );
                assert_eq!(shown.await, true, "the focus on {selector} shows");
                return;
            }
        }
        panic!("the tab key does not reach {selector}\n{}", self.text("body").await);
    }

    pub async fn screen(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn scheme(&self, scheme: &str) {
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] })).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.call("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
    }

    /// All addresses that its pages asked for, since it started.
    pub async fn requests(&mut self) -> &HashSet<String> {
        let log = self.call("se/log", json!({ "type": "performance" })).await;
        for entry in log.as_array().unwrap() {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] == "Network.requestWillBeSent" {
                self.asked.insert(message["message"]["params"]["request"]["url"].as_str().unwrap().to_owned());
            }
        }
        &self.asked
    }

    /// What its console holds that is an error, refusals of the policy among it.
    pub async fn complaints(&self) -> Vec<String> {
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
