//! The steps of the suite's plans: each is one action as uniform text, with the check that the action makes true.

use milepost_runtime::text::{quote, unquote};
use milepost_runtime::{Action, Check, Element, Error, Observation, Planned, Result};

use crate::labels::wordings;

/// The instruction that the text of a plan step gives to the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Click(String),
    Type { text: String, field: String },
    TypeThenClick { text: String, field: String, button: String },
    TypeResult { field: String },
    Select { option: String, field: String },
    SelectResult { field: String },
    Tick(String),
    Open(String),
    Fetch(String),
    Answer,
}

impl Intent {
    /// Parses the text of a step.
    ///
    /// # Errors
    /// The text is in none of the forms.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let literal = |rest| unquote("plan step", rest);
        let last = |rest| literal(rest).map(|(name, _)| name);
        if let Some(rest) = text.strip_prefix("click ") {
            Ok(Self::Click(last(rest)?))
        } else if let Some(rest) = text.strip_prefix("type result into ") {
            Ok(Self::TypeResult { field: last(rest)? })
        } else if let Some(rest) = text.strip_prefix("select result in ") {
            Ok(Self::SelectResult { field: last(rest)? })
        } else if let Some(rest) = text.strip_prefix("type ") {
            let (typed, rest) = literal(rest)?;
            let (field, rest) = literal(rest.strip_prefix(" into ").unwrap_or(rest))?;
            match rest.strip_prefix(" and click ") {
                Some(rest) => Ok(Self::TypeThenClick { text: typed, field, button: last(rest)? }),
                None => Ok(Self::Type { text: typed, field }),
            }
        } else if let Some(rest) = text.strip_prefix("select ") {
            let (option, rest) = literal(rest)?;
            Ok(Self::Select { option, field: last(rest.strip_prefix(" in ").unwrap_or(rest))? })
        } else if let Some(rest) = text.strip_prefix("tick ") {
            Ok(Self::Tick(last(rest)?))
        } else if let Some(rest) = text.strip_prefix("open ") {
            Ok(Self::Open(last(rest)?))
        } else if let Some(rest) = text.strip_prefix("fetch ") {
            Ok(Self::Fetch(last(rest)?))
        } else if text == "answer" {
            Ok(Self::Answer)
        } else {
            Err(Error::parse("plan step", text, "expected click, type, select, tick, open, fetch or answer"))
        }
    }

    /// Returns the action that carries the step out on this page; `done` is the action before this one, if the page is still the same.
    ///
    /// # Errors
    /// The element is not on the page, or several elements have its name, or the step needs a tool result that is not there.
    pub(crate) fn action(&self, page: &Observation, done: Option<&Action>) -> Result<Action> {
        Ok(match self {
            Self::Click(label) => Action::Click(target(page, CLICK_ROLES, label)?.id),
            Self::Type { text, field } => Action::Type { id: target(page, TYPE_ROLES, field)?.id, text: text.clone() },
            Self::TypeThenClick { text, field, button } => match done {
                Some(Action::Type { text: typed, .. }) if typed == text => Action::Click(target(page, CLICK_ROLES, button)?.id),
                _ => Action::Type { id: target(page, TYPE_ROLES, field)?.id, text: text.clone() },
            },
            Self::TypeResult { field } => Action::Type { id: target(page, TYPE_ROLES, field)?.id, text: result(page)? },
            Self::Select { option, field } => Action::Select { id: target(page, SELECT_ROLES, field)?.id, option: option.clone() },
            Self::SelectResult { field } => Action::Select { id: target(page, SELECT_ROLES, field)?.id, option: result(page)? },
            Self::Tick(name) => Action::Click(target(page, TICK_ROLES, name)?.id),
            Self::Open(path) => Action::Goto(path.clone()),
            Self::Fetch(path) => Action::Call { tool: "fetch".into(), arguments: serde_json::json!({ "url": path }) },
            Self::Answer => Action::Answer { text: None },
        })
    }

    /// Returns whether an action on this page carries the step out, in part or whole. Any element with the right name will do.
    pub(crate) fn served_by(&self, action: &Action, page: &Observation) -> bool {
        let on = |id: &u32, roles, name: &str| matching(page, roles, name).any(|element| element.id == *id);
        match (self, action) {
            (Self::Click(label), Action::Click(id)) => on(id, CLICK_ROLES, label),
            (Self::Type { text, field } | Self::TypeThenClick { text, field, .. }, Action::Type { id, text: typed }) => {
                typed == text && on(id, TYPE_ROLES, field)
            }
            (Self::TypeThenClick { button, .. }, Action::Click(id)) => on(id, CLICK_ROLES, button),
            (Self::TypeResult { field }, Action::Type { id, text }) => {
                on(id, TYPE_ROLES, field) && result(page).is_ok_and(|told| told == *text)
            }
            (Self::Select { option, field }, Action::Select { id, option: chosen }) => chosen == option && on(id, SELECT_ROLES, field),
            (Self::SelectResult { field }, Action::Select { id, option }) => {
                on(id, SELECT_ROLES, field) && result(page).is_ok_and(|told| told == *option)
            }
            (Self::Tick(name), Action::Click(id)) => on(id, TICK_ROLES, name),
            (Self::Open(path), Action::Goto(to)) => {
                to == path || to.split_once("://").is_some_and(|(_, rest)| rest.ends_with(path.as_str()))
            }
            (Self::Fetch(path), Action::Call { tool, arguments }) => {
                tool == "fetch" && arguments.get("url").and_then(|url| url.as_str()).is_some_and(|url| url.ends_with(path.as_str()))
            }
            (Self::Answer, Action::Answer { .. }) => true,
            _ => false,
        }
    }
}

const CLICK_ROLES: &[&str] = &["link", "button"];
const TYPE_ROLES: &[&str] = &["textbox", "searchbox", "spinbutton"];
const SELECT_ROLES: &[&str] = &["combobox", "listbox"];
const TICK_ROLES: &[&str] = &["checkbox", "radio"];

/// Finds the elements with one of these roles and a wording of this label.
pub(crate) fn matching<'a>(page: &'a Observation, roles: &'static [&'static str], label: &str) -> impl Iterator<Item = &'a Element> {
    let names = wordings(label);
    page.elements.iter().filter(move |element| roles.contains(&element.role.as_str()) && names.contains(&element.name))
}

/// Returns whether a link or button with this label is on the page.
pub(crate) fn clickable(page: &Observation, label: &str) -> bool {
    matching(page, CLICK_ROLES, label).next().is_some()
}

/// Finds the one element with one of these roles and a wording of this label.
fn target<'a>(page: &'a Observation, roles: &'static [&'static str], label: &str) -> Result<&'a Element> {
    let mut found = matching(page, roles, label);
    match (found.next(), found.next()) {
        (Some(element), None) => Ok(element),
        (None, _) => Err(Error::Policy(format!("there is no {label:?} ({}) on {}", roles.join(" or "), page.path()))),
        (Some(_), Some(_)) => Err(Error::Policy(format!("{label:?} ({}) stands more than once on {}", roles.join(" or "), page.path()))),
    }
}

/// Returns the value in the last tool result, which is a JSON object with one member.
fn result(page: &Observation) -> Result<String> {
    let missing = || Error::Policy(format!("there is no tool result to use on {}", page.path()));
    let text = page.tool_result.as_deref().ok_or_else(missing)?;
    let body = &text[text.find('{').ok_or_else(missing)?..=text.rfind('}').ok_or_else(missing)?];
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).map_err(|_| missing())?;
    object.values().find_map(|value| value.as_str().map(str::to_owned)).ok_or_else(missing)
}

fn step(text: String, check: Check) -> Planned {
    Planned { text, check: Some(check) }
}

/// Makes the check that a field holds a value.
pub(crate) fn field_is(field: &str, value: &str) -> Check {
    Check::FieldHasValue { name: field.into(), value: value.into() }
}

/// Makes the check that a text is visible.
pub(crate) fn text_visible(text: impl Into<String>) -> Check {
    Check::TextVisible(text.into())
}

/// Makes the check that the URL contains a text.
pub(crate) fn url_contains(part: impl Into<String>) -> Check {
    Check::UrlContains(part.into())
}

/// Makes the step that clicks, after which the URL contains `part`.
pub(crate) fn click_to_url(label: &str, part: impl Into<String>) -> Planned {
    step(format!("click {}", quote(label)), url_contains(part))
}

/// Makes the step that clicks, after which a text is visible.
pub(crate) fn click_to_text(label: &str, text: impl Into<String>) -> Planned {
    step(format!("click {}", quote(label)), text_visible(text))
}

/// Makes the step that types a text into a field.
pub(crate) fn type_text(field: &str, text: &str) -> Planned {
    step(format!("type {} into {}", quote(text), quote(field)), field_is(field, text))
}

/// Makes the step that types a secret and sends the form. It is one step, because a page never shows the content of a password field.
pub(crate) fn type_secret_and_click(field: &str, secret: &str, button: &str, part: &str) -> Planned {
    step(format!("type \"{{{{secret:{secret}}}}}\" into {} and click {}", quote(field), quote(button)), url_contains(part))
}

/// Makes the step that types the tool's result into an empty field.
pub(crate) fn type_result(field: &str) -> Planned {
    step(format!("type result into {}", quote(field)), Check::Not(Box::new(field_is(field, ""))))
}

/// Makes the step that selects the tool's result in a list whose value is `before`.
pub(crate) fn select_result(field: &str, before: &str) -> Planned {
    step(format!("select result in {}", quote(field)), Check::Not(Box::new(field_is(field, before))))
}

/// Makes the step that selects an option.
pub(crate) fn select_option(field: &str, option: &str) -> Planned {
    step(format!("select {} in {}", quote(option), quote(field)), field_is(field, option))
}

/// Makes the step that ticks a checkbox or radio button.
pub(crate) fn tick(name: &str) -> Planned {
    step(format!("tick {}", quote(name)), Check::Checked(name.into()))
}

/// Makes the step that goes to a path.
pub(crate) fn open_path(path: &str) -> Planned {
    step(format!("open {}", quote(path)), url_contains(path))
}

/// Makes the step that fetches a JSON endpoint whose answer has the member `key`.
pub(crate) fn fetch_json(path: &str, key: &str) -> Planned {
    step(format!("fetch {}", quote(path)), text_visible(key))
}

/// Adds the closing step `answer`. The answer may be given as soon as the step before it is done, so it has that step's check.
pub(crate) fn with_answer_step(mut steps: Vec<Planned>) -> Vec<Planned> {
    let check = steps.last().and_then(|last| last.check.clone());
    steps.push(Planned { text: "answer".into(), check });
    steps
}
