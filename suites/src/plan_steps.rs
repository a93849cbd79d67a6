//! Plan steps: one action each, as uniform text, with the check that its action makes true.

use milepost_runtime::text::{quote, unquote};
use milepost_runtime::{Action, Check, Element, Error, Observation, Planned, Result};

use crate::labels::wordings;

/// What a step's text tells the executor to do.
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
    /// Reads a step's text.
    ///
    /// # Errors
    /// Text in none of the forms.
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

    /// The action that carries it out on this page; `done` is the action before this one, where the page is still the same.
    ///
    /// # Errors
    /// The element is not on the page, or not alone under its name, or a result is asked for that is not there.
    pub(crate) fn action(&self, page: &Observation, done: Option<&Action>) -> Result<Action> {
        Ok(match self {
            Self::Click(label) => Action::Click(target(page, CLICKED, label)?.id),
            Self::Type { text, field } => Action::Type { id: target(page, TYPED, field)?.id, text: text.clone() },
            Self::TypeThenClick { text, field, button } => match done {
                Some(Action::Type { text: typed, .. }) if typed == text => Action::Click(target(page, CLICKED, button)?.id),
                _ => Action::Type { id: target(page, TYPED, field)?.id, text: text.clone() },
            },
            Self::TypeResult { field } => Action::Type { id: target(page, TYPED, field)?.id, text: result(page)? },
            Self::Select { option, field } => Action::Select { id: target(page, CHOSEN, field)?.id, option: option.clone() },
            Self::SelectResult { field } => Action::Select { id: target(page, CHOSEN, field)?.id, option: result(page)? },
            Self::Tick(name) => Action::Click(target(page, TICKED, name)?.id),
            Self::Open(path) => Action::Goto(path.clone()),
            Self::Fetch(path) => Action::Call { tool: "fetch".into(), arguments: serde_json::json!({ "url": path }) },
            Self::Answer => Action::Answer { text: None },
        })
    }
}

impl Intent {
    /// Whether an action on this page is one that carries the step out, in part or whole. Any element with the right name will do.
    pub(crate) fn served_by(&self, action: &Action, page: &Observation) -> bool {
        let on = |id: &u32, roles, name: &str| matching(page, roles, name).any(|element| element.id == *id);
        match (self, action) {
            (Self::Click(label), Action::Click(id)) => on(id, CLICKED, label),
            (Self::Type { text, field } | Self::TypeThenClick { text, field, .. }, Action::Type { id, text: typed }) => {
                typed == text && on(id, TYPED, field)
            }
            (Self::TypeThenClick { button, .. }, Action::Click(id)) => on(id, CLICKED, button),
            (Self::TypeResult { field }, Action::Type { id, text }) => on(id, TYPED, field) && result(page).is_ok_and(|told| told == *text),
            (Self::Select { option, field }, Action::Select { id, option: chosen }) => chosen == option && on(id, CHOSEN, field),
            (Self::SelectResult { field }, Action::Select { id, option }) => {
                on(id, CHOSEN, field) && result(page).is_ok_and(|told| told == *option)
            }
            (Self::Tick(name), Action::Click(id)) => on(id, TICKED, name),
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

const CLICKED: &[&str] = &["link", "button"];
const TYPED: &[&str] = &["textbox", "searchbox", "spinbutton"];
const CHOSEN: &[&str] = &["combobox", "listbox"];
const TICKED: &[&str] = &["checkbox", "radio"];

/// Elements with one of these roles and a wording of this label.
pub(crate) fn matching<'a>(page: &'a Observation, roles: &'static [&'static str], label: &str) -> impl Iterator<Item = &'a Element> {
    let names = wordings(label);
    page.elements.iter().filter(move |element| roles.contains(&element.role.as_str()) && names.contains(&element.name))
}

/// Whether a link or button with this label is on the page.
pub(crate) fn clickable(page: &Observation, label: &str) -> bool {
    matching(page, CLICKED, label).next().is_some()
}

fn target<'a>(page: &'a Observation, roles: &'static [&'static str], label: &str) -> Result<&'a Element> {
    let mut found = matching(page, roles, label);
    match (found.next(), found.next()) {
        (Some(element), None) => Ok(element),
        (None, _) => Err(Error::Policy(format!("there is no {label:?} ({}) on {}", roles.join(" or "), page.path()))),
        (Some(_), Some(_)) => Err(Error::Policy(format!("{label:?} ({}) stands more than once on {}", roles.join(" or "), page.path()))),
    }
}

/// The value in the last tool result, a JSON object with one member.
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

/// The check that a field holds a value.
pub(crate) fn holds(field: &str, value: &str) -> Check {
    Check::FieldHasValue { name: field.into(), value: value.into() }
}

/// The check that a text can be read.
pub(crate) fn seen(text: impl Into<String>) -> Check {
    Check::TextVisible(text.into())
}

/// The check that the address contains a text.
pub(crate) fn at(part: impl Into<String>) -> Check {
    Check::UrlContains(part.into())
}

/// Click, then the address contains `part`.
pub(crate) fn leads(label: &str, part: impl Into<String>) -> Planned {
    step(format!("click {}", quote(label)), at(part))
}

/// Click, then a text can be read.
pub(crate) fn shows(label: &str, text: impl Into<String>) -> Planned {
    step(format!("click {}", quote(label)), seen(text))
}

/// Type a text into a field.
pub(crate) fn types(field: &str, text: &str) -> Planned {
    step(format!("type {} into {}", quote(text), quote(field)), holds(field, text))
}

/// Type a secret and send the form: one step, because a page never shows what a password field holds.
pub(crate) fn signs_in(field: &str, secret: &str, button: &str, part: &str) -> Planned {
    step(format!("type \"{{{{secret:{secret}}}}}\" into {} and click {}", quote(field), quote(button)), at(part))
}

/// Type the tool's result into an empty field.
pub(crate) fn types_result(field: &str) -> Planned {
    step(format!("type result into {}", quote(field)), Check::Not(Box::new(holds(field, ""))))
}

/// Select the tool's result in a list that stands on `before`.
pub(crate) fn selects_result(field: &str, before: &str) -> Planned {
    step(format!("select result in {}", quote(field)), Check::Not(Box::new(holds(field, before))))
}

/// Select an option.
pub(crate) fn selects(field: &str, option: &str) -> Planned {
    step(format!("select {} in {}", quote(option), quote(field)), holds(field, option))
}

/// Tick a checkbox or radio button.
pub(crate) fn ticks(name: &str) -> Planned {
    step(format!("tick {}", quote(name)), Check::Checked(name.into()))
}

/// Go to a path.
pub(crate) fn opens(path: &str) -> Planned {
    step(format!("open {}", quote(path)), at(path))
}

/// Fetch a JSON endpoint whose answer has the member `key`.
pub(crate) fn fetches(path: &str, key: &str) -> Planned {
    step(format!("fetch {}", quote(path)), seen(key))
}

/// Adds the closing `answer`: it may be given as soon as the step before it is done, so it has that step's check.
pub(crate) fn finish(mut steps: Vec<Planned>) -> Vec<Planned> {
    let check = steps.last().and_then(|last| last.check.clone());
    steps.push(Planned { text: "answer".into(), check });
    steps
}
