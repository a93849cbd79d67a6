//! The line of an action: reading and printing it. An action is stored as its line.

use super::arguments::Rest;
use super::forms::Naming;
use super::table::{Action, ActionKind};
use crate::error::{Error, Result};
use crate::observation::Observation;

impl Action {
    /// Parses an action line.
    ///
    /// # Errors
    /// The line is no action.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let Some(kind) = ActionKind::from_word(word) else {
            return Err(Error::parse("action", line, format!("expected {}", all_words())));
        };
        let mut rest = Rest::new(line, rest.trim(), kind.spec().expected);
        let action = kind.read(&mut rest)?;
        rest.end().map(|()| action)
    }

    /// Returns the action's line; `element` returns the text for an element id.
    fn written(&self, element: impl Fn(u32) -> String) -> String {
        let mut line = self.kind().word().to_owned();
        for argument in self.arguments() {
            line.push(' ');
            line.push_str(&argument.written(&element));
        }
        line
    }
}

/// Returns the line of an action, with its element named as `naming` says.
pub fn named_line(action: &Action, observation: &Observation, naming: Naming) -> String {
    action.written(|id| observation.element(id).map_or_else(|| id.to_string(), |element| naming.of(element)))
}

/// Returns the words of all actions as a list in a sentence.
fn all_words() -> String {
    let words: Vec<&str> = ActionKind::ALL.iter().map(|kind| kind.word()).collect();
    match words.split_last() {
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => String::new(),
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written(|id| id.to_string()))
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.to_string()
    }
}

impl TryFrom<String> for Action {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}
