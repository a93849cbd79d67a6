//! Carries out each action in the browser.

use milepost_runtime::{Action, Direction, Key, Outcome, Result, secrets};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::BrowserEnvironment;
use super::session::{CallError, CallResult, Command, Timeout};

/// The script that calls a function of `act.js`.
macro_rules! act {
    ($call:literal) => {
        concat!(include_str!("act.js"), "\nreturn ", $call, ";")
    };
}

const CLICK_POINT: &str = act!("clickPoint(arguments[0])");
const FIND: &str = act!("find(arguments[0])");
const FIELD_ORIGIN: &str = act!("fieldOrigin(arguments[0])");
const FILL: &str = act!("fill(arguments[0], arguments[1], arguments[2])");
const CHOOSE: &str = act!("choose(arguments[0], arguments[1])");
const SCROLL: &str = act!("scroll(arguments[0])");
const WAIT_FOR_CHANGE: &str = act!("waitForChange(arguments[0])");

/// The maximum time that the action `wait` takes; milliseconds.
const WAIT_MS: u64 = 1_000;

/// The answer of a function of `act.js`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    missing: bool,
    invalid: bool,
    refused: Option<String>,
    covered: Option<String>,
    focused: bool,
    origin: Option<String>,
    x: Option<i64>,
    y: Option<i64>,
}

impl Reply {
    fn read(value: Value) -> Self {
        serde_json::from_value(value).unwrap_or_default()
    }

    /// Returns the outcome of an action that was not carried out; `None` where it was.
    fn failure(&self, id: u32) -> Option<Outcome> {
        if self.missing {
            return Some(missing(id));
        }
        if let Some(covering) = &self.covered {
            return Some(Outcome::failed(format!("element {id} is covered by {covering}")));
        }
        let reason = self.refused.as_ref()?;
        let prefix = if self.invalid { "invalid: " } else { "" };
        Some(Outcome::failed(format!("{prefix}element {id} {reason}")))
    }
}

fn missing(id: u32) -> Outcome {
    Outcome::failed(format!("invalid: there is no element {id} on the page"))
}

impl BrowserEnvironment {
    /// Carries out an action. If the page or the driver refuses it, the outcome has the reason; only the loss of the browser is an error.
    pub(super) async fn perform(&mut self, action: &Action) -> Result<Outcome> {
        self.unsettled = true;
        let done = match action {
            Action::Click(id) => self.click(*id).await,
            Action::Type { id, text } => self.fill(*id, text).await,
            Action::Select { id, option } => self.choose(*id, option).await,
            Action::Press(key) => self.press(*key).await,
            Action::Scroll(direction) => self.scroll(*direction).await,
            Action::Goto(target) => self.goto(target).await,
            Action::Back => self.back().await,
            Action::Wait => self.wait().await,
            other => Ok(Outcome::unsupported(other)),
        };
        match done {
            Ok(outcome) => Ok(outcome),
            Err(CallError::Dialog) => {
                self.dialog = true;
                Ok(Outcome::failed("a dialog is open: `press Enter` accepts it, `press Escape` dismisses it"))
            }
            // The document was replaced, so the page is no longer the one that the action was meant for.
            Err(CallError::Navigated) => Ok(Outcome::failed("the page changed before the action was done; look again")),
            Err(CallError::NoWindow) => Ok(Outcome::failed("the tab was closed before the action was done; look again")),
            Err(CallError::Slow) => Ok(Outcome::failed("the page did not load in time and was stopped")),
            Err(CallError::Refused(reason)) => Ok(Outcome::failed(self.secrets.scrub(&reason))),
            Err(gone @ CallError::Gone(_)) => Err(gone.into_error()),
        }
    }

    async fn click(&mut self, id: u32) -> CallResult<Outcome> {
        let reply = Reply::read(self.session.script(CLICK_POINT, json!([id]), Timeout::Command).await?);
        if let Some(failure) = reply.failure(id) {
            return Ok(failure);
        }
        if reply.focused {
            return Ok(Outcome::done());
        }
        let (Some(x), Some(y)) = (reply.x, reply.y) else { return Ok(missing(id)) };
        let press = json!({ "actions": [{ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": [
            { "type": "pointerMove", "duration": 0, "x": x, "y": y, "origin": "viewport" },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ] }] });
        match self.session.call(Command::post("actions", press), Timeout::Navigation).await {
            Err(CallError::Refused(reason)) => {
                tracing::debug!(reason, "no pointer actions; clicking the element");
                self.click_by_reference(id).await?;
            }
            other => accept_page_change(other)?,
        }
        Ok(Outcome::done())
    }

    /// Clicks an element by WebDriver's own command, for drivers without pointer actions.
    async fn click_by_reference(&mut self, id: u32) -> CallResult<()> {
        let reference = self.session.script(FIND, json!([id]), Timeout::Command).await?;
        let element = reference.as_object().and_then(|object| object.values().next()).and_then(Value::as_str);
        let element = element.ok_or_else(|| CallError::Refused(format!("element {id} went away")))?;
        accept_page_change(self.session.call(Command::post(&format!("element/{element}/click"), json!({})), Timeout::Navigation).await)
    }

    async fn fill(&mut self, id: u32, text: &str) -> CallResult<Outcome> {
        let (mut value, mut origin) = (text.to_owned(), None);
        if !secrets::names(text).is_empty() {
            let reply = Reply::read(self.session.script(FIELD_ORIGIN, json!([id]), Timeout::Command).await?);
            let Some(owner) = reply.origin else { return Ok(missing(id)) };
            let Ok(page) = Url::parse(&owner) else {
                return Ok(Outcome::failed(format!("element {id} is in a page without an origin; no secret is typed there")));
            };
            value = match self.secrets.reveal(text, &page) {
                Ok(value) => value,
                Err(error) => return Ok(Outcome::failed(error.to_string())),
            };
            origin = Some(owner);
            self.secret_fields.insert(id);
        }
        let filled = self.session.script(FILL, json!([id, value, origin]), Timeout::Navigation).await;
        field_outcome(id, filled)
    }

    async fn choose(&mut self, id: u32, option: &str) -> CallResult<Outcome> {
        let chosen = self.session.script(CHOOSE, json!([id, option]), Timeout::Navigation).await;
        field_outcome(id, chosen)
    }

    async fn press(&mut self, key: Key) -> CallResult<Outcome> {
        if self.dialog && matches!(key, Key::Enter | Key::Escape) {
            self.dialog = false;
            let answer = if key == Key::Enter { "alert/accept" } else { "alert/dismiss" };
            match self.session.call(Command::post(answer, json!({})), Timeout::Navigation).await {
                Ok(_) => {
                    return Ok(Outcome::done());
                }
                // The dialog has closed in the meantime, so the key goes to the page.
                Err(CallError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let code = key_code(key);
        let strokes = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": code },
            { "type": "keyUp", "value": code },
        ] }] });
        accept_page_change(self.session.call(Command::post("actions", strokes), Timeout::Navigation).await)?;
        Ok(Outcome::done())
    }

    async fn scroll(&mut self, direction: Direction) -> CallResult<Outcome> {
        let sign = if direction == Direction::Up { -1 } else { 1 };
        self.session.script(SCROLL, json!([sign]), Timeout::Command).await?;
        Ok(Outcome::done())
    }

    async fn goto(&mut self, target: &str) -> CallResult<Outcome> {
        let joined = Url::parse(&self.page.url).ok().map_or_else(|| Url::parse(target).ok(), |base| base.join(target).ok());
        match joined {
            Some(url) if matches!(url.scheme(), "http" | "https") => match self.open(&url).await {
                Ok(()) => Ok(Outcome::done()),
                Err(CallError::Refused(reason)) => Ok(Outcome::failed(format!("{url} cannot be opened: {reason}"))),
                Err(CallError::Slow) => Ok(Outcome::failed(format!("{url} did not load in time"))),
                Err(error) => Err(error),
            },
            _ => Ok(Outcome::failed(format!("invalid: {target:?} is no http or https address"))),
        }
    }

    async fn back(&mut self) -> CallResult<Outcome> {
        self.dismiss_dialog().await?;
        match self.session.devtools("Page.getNavigationHistory", json!({})).await {
            Ok(history) if history["currentIndex"].as_u64() == Some(0) => {
                return Ok(Outcome::failed("there is no earlier page to go back to"));
            }
            Ok(_) | Err(CallError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        accept_page_change(self.session.call(Command::post("back", json!({})), Timeout::Navigation).await)?;
        Ok(Outcome::done())
    }

    async fn wait(&mut self) -> CallResult<Outcome> {
        match self.session.script(WAIT_FOR_CHANGE, json!([WAIT_MS]), Timeout::Navigation).await {
            Ok(_) | Err(CallError::Navigated | CallError::NoWindow) => Ok(Outcome::done()),
            Err(error) => Err(error),
        }
    }

    /// Dismisses an open dialog and loads an address.
    pub(super) async fn open(&mut self, url: &Url) -> CallResult<()> {
        self.dismiss_dialog().await?;
        match self.session.call(Command::post("url", json!({ "url": url.as_str() })), Timeout::Navigation).await {
            Ok(_) | Err(CallError::Dialog | CallError::Navigated) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Dismisses the dialog, if one is open.
    pub(super) async fn dismiss_dialog(&mut self) -> CallResult<()> {
        if std::mem::take(&mut self.dialog) {
            match self.session.call(Command::post("alert/dismiss", json!({})), Timeout::Navigation).await {
                Ok(_) | Err(CallError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Returns the outcome of a script that changed a field. That the page's event handlers opened a dialog or left the page counts as success.
fn field_outcome(id: u32, answer: CallResult<Value>) -> CallResult<Outcome> {
    match answer {
        Ok(Value::Null) | Err(CallError::Navigated | CallError::NoWindow) => Ok(Outcome::done()),
        Ok(value) => match Reply::read(value).failure(id) {
            Some(failure) => Ok(failure),
            None => Ok(Outcome::done()),
        },
        Err(error) => Err(error),
    }
}

/// Accepts a new page, a dialog or a closed tab after an input event: it is the effect of the action, not a failure, and the next
/// observation shows it.
fn accept_page_change(answer: CallResult<Value>) -> CallResult<()> {
    match answer {
        Ok(_) | Err(CallError::Navigated | CallError::Dialog | CallError::NoWindow | CallError::Slow) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the key's code point in WebDriver's table of keys.
fn key_code(key: Key) -> char {
    match key {
        Key::Enter => '\u{E007}',
        Key::Tab => '\u{E004}',
        Key::Escape => '\u{E00C}',
        Key::ArrowUp => '\u{E013}',
        Key::ArrowDown => '\u{E015}',
        Key::ArrowLeft => '\u{E012}',
        Key::ArrowRight => '\u{E014}',
        Key::PageUp => '\u{E00E}',
        Key::PageDown => '\u{E00F}',
        Key::Backspace => '\u{E003}',
    }
}
