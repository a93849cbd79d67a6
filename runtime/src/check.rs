//! Checks: a small closed language that decides a milestone from an observation, with no model call.
//!
//! ```text
//! url contains "/cart"            text visible "Order placed"     field "City" is "Oslo"
//! exists button "Pay"             count row at least 3            checked "Gift wrap"
//! CHECK and CHECK                 CHECK or CHECK                  not CHECK          (CHECK)
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observation::{Observation, State};
use crate::text::{quote, squash, unquote};

/// Maximum length of a check's text, in bytes.
const LONGEST: usize = 4096;
/// Maximum number of parentheses and `not`s in a check.
const DEEPEST: usize = 64;

/// The only reason why a check can be undecided on the last page.
pub const UNDECIDED: &str = "the last page was read only in part because of its size, and what the check looks for may stand in the rest";

/// The three-valued result of a check: what is absent from a truncated observation is unknown, not false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The check holds.
    True,
    /// The check does not hold.
    False,
    /// It is unknown whether the check holds.
    #[default]
    Unknown,
}

impl Verdict {
    /// Returns whether the check holds; `None` if that is unknown.
    pub fn decided(self) -> Option<bool> {
        match self {
            Self::True => Some(true),
            Self::False => Some(false),
            Self::Unknown => None,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            _ => Self::Unknown,
        }
    }
}

/// A check, which is evaluated against an [`Observation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Check {
    /// The address contains this text.
    UrlContains(String),
    /// This text can be read on the page (case and white space ignored) or in the last tool result.
    TextVisible(String),
    /// A field with this name has this value.
    FieldHasValue {
        /// Accessible name of the field.
        name: String,
        /// Its value, exact after trimming.
        value: String,
    },
    /// A checkbox, radio button or option with this name is ticked.
    Checked(String),
    /// An element with this role and name exists.
    Exists {
        /// ARIA role.
        role: String,
        /// Accessible name.
        name: String,
    },
    /// At least this many elements have this role.
    CountAtLeast {
        /// ARIA role.
        role: String,
        /// The minimum number of elements.
        count: u32,
    },
    /// Both checks hold.
    And(Box<Check>, Box<Check>),
    /// At least one of the checks holds.
    Or(Box<Check>, Box<Check>),
    /// The check does not hold.
    Not(Box<Check>),
}

impl Check {
    /// Evaluates the check against an observation.
    pub fn evaluate(&self, observation: &Observation) -> Verdict {
        let known = |found: bool| match (found, observation.truncated) {
            (true, _) => Verdict::True,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::False,
        };
        match self {
            Self::UrlContains(part) => match observation.url.contains(part.as_str()) {
                true => Verdict::True,
                false => Verdict::False,
            },
            Self::TextVisible(text) => known(contains_folded(&observation.readable(), text)),
            Self::FieldHasValue { name, value } => {
                match observation.elements.iter().find(|element| element.name == *name && element.value.is_some()) {
                    Some(_) => {
                        let holds = observation
                            .elements
                            .iter()
                            .any(|element| element.name == *name && element.value.as_deref().map(str::trim) == Some(value.trim()));
                        if holds { Verdict::True } else { Verdict::False }
                    }
                    None => known(false),
                }
            }
            Self::Checked(name) => known(
                observation
                    .elements
                    .iter()
                    .any(|element| element.name == *name && (element.is(State::Checked) || element.is(State::Selected))),
            ),
            Self::Exists { role, name } => known(observation.find(role, name).is_some()),
            Self::CountAtLeast { role, count } => {
                known(observation.elements.iter().filter(|element| element.role == *role).count() >= *count as usize)
            }
            Self::And(a, b) => a.evaluate(observation).and(b.evaluate(observation)),
            Self::Or(a, b) => a.evaluate(observation).not().and(b.evaluate(observation).not()).not(),
            Self::Not(a) => a.evaluate(observation).not(),
        }
    }

    /// Parses a check, which must be the whole text.
    ///
    /// # Errors
    /// The text is not a check, or it is too long or nested too deeply.
    pub fn parse(text: &str) -> Result<Self> {
        // The parser recurses at each parenthesis and each `not`, and checks are untrusted input.
        if text.len() > LONGEST || nesting(text) > DEEPEST {
            let reason = format!("it is longer than {LONGEST} bytes or has more than {DEEPEST} parentheses and `not`s; say it shorter");
            return Err(Error::parse("check", text, reason));
        }
        let (check, rest) = parse_or(text.trim())?;
        match rest.trim() {
            "" => Ok(check),
            rest => Err(Error::parse("check", text, format!("unexpected {rest:?}; checks are joined with `and` / `or`"))),
        }
    }

    /// Returns the Lark rules for a check without connectives, whose rule is `check`; they need the rule `literal`.
    pub fn grammar_rules() -> &'static str {
        r#"check: "url contains " literal | "text visible " literal | "field " literal " is " literal | "checked " literal | "exists " ROLE " " literal | "count " ROLE " at least " NUMBER | "not " check
ROLE: /[a-z]{2,16}/
NUMBER: /[0-9]{1,3}/"#
    }
}

/// Whether `needle` occurs in `haystack`, ignoring case and differences in white space.
pub fn contains_folded(haystack: &str, needle: &str) -> bool {
    let needle = squash(needle).to_lowercase();
    !needle.is_empty() && squash(haystack).to_lowercase().contains(&needle)
}

fn parse_or(text: &str) -> Result<(Check, &str)> {
    let (mut left, mut rest) = parse_and(text)?;
    while let Some(tail) = rest.trim_start().strip_prefix("or ") {
        let (right, tail) = parse_and(tail)?;
        left = Check::Or(Box::new(left), Box::new(right));
        rest = tail;
    }
    Ok((left, rest))
}

fn parse_and(text: &str) -> Result<(Check, &str)> {
    let (mut left, mut rest) = parse_atom(text)?;
    while let Some(tail) = rest.trim_start().strip_prefix("and ") {
        let (right, tail) = parse_atom(tail)?;
        left = Check::And(Box::new(left), Box::new(right));
        rest = tail;
    }
    Ok((left, rest))
}

fn parse_atom(text: &str) -> Result<(Check, &str)> {
    const FORMS: &str = "expected `url contains \"…\"`, `text visible \"…\"`, `field \"…\" is \"…\"`, `checked \"…\"`, \
                         `exists ROLE \"…\"`, `count ROLE at least N`, `not CHECK` or `(CHECK)`";
    let text = text.trim_start();
    let one = |rest, make: fn(String) -> Check| unquote("check", rest).map(|(literal, rest)| (make(literal), rest));
    if let Some(rest) = text.strip_prefix("url contains ") {
        one(rest.trim_start(), Check::UrlContains)
    } else if let Some(rest) = text.strip_prefix("text visible ") {
        one(rest.trim_start(), Check::TextVisible)
    } else if let Some(rest) = text.strip_prefix("checked ") {
        one(rest.trim_start(), Check::Checked)
    } else if let Some(rest) = text.strip_prefix("field ") {
        let (name, rest) = unquote("check", rest.trim_start())?;
        let rest =
            rest.trim_start().strip_prefix("is ").ok_or_else(|| Error::parse("check", text, "expected `is` after the field's name"))?;
        let (value, rest) = unquote("check", rest.trim_start())?;
        Ok((Check::FieldHasValue { name, value }, rest))
    } else if let Some(rest) = text.strip_prefix("exists ") {
        let (role, rest) = word(rest, text)?;
        let (name, rest) = unquote("check", rest.trim_start())?;
        Ok((Check::Exists { role, name }, rest))
    } else if let Some(rest) = text.strip_prefix("count ") {
        let (role, rest) = word(rest, text)?;
        let rest = rest.trim_start().strip_prefix("at least ").ok_or_else(|| Error::parse("check", text, "expected `at least N`"))?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count = rest[..digits].parse().map_err(|_| Error::parse("check", text, "expected a number after `at least`"))?;
        Ok((Check::CountAtLeast { role, count }, &rest[digits..]))
    } else if let Some(rest) = text.strip_prefix("not ") {
        let (check, rest) = parse_atom(rest)?;
        Ok((Check::Not(Box::new(check)), rest))
    } else if let Some(rest) = text.strip_prefix('(') {
        let (check, rest) = parse_or(rest)?;
        let rest = rest.trim_start().strip_prefix(')').ok_or_else(|| Error::parse("check", text, "the closing parenthesis is missing"))?;
        Ok((check, rest))
    } else {
        Err(Error::parse("check", text, FORMS))
    }
}

fn word<'a>(rest: &'a str, whole: &str) -> Result<(String, &'a str)> {
    let rest = rest.trim_start();
    match rest.split_once(' ') {
        Some((word, rest)) if !word.is_empty() => Ok((word.to_owned(), rest)),
        _ => Err(Error::parse("check", whole, "expected a role")),
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UrlContains(part) => write!(f, "url contains {}", quote(part)),
            Self::TextVisible(text) => write!(f, "text visible {}", quote(text)),
            Self::FieldHasValue { name, value } => write!(f, "field {} is {}", quote(name), quote(value)),
            Self::Checked(name) => write!(f, "checked {}", quote(name)),
            Self::Exists { role, name } => write!(f, "exists {role} {}", quote(name)),
            Self::CountAtLeast { role, count } => write!(f, "count {role} at least {count}"),
            Self::And(a, b) => write!(f, "({a} and {b})"),
            Self::Or(a, b) => write!(f, "({a} or {b})"),
            Self::Not(a) => write!(f, "not {a}"),
        }
    }
}

impl From<Check> for String {
    fn from(check: Check) -> Self {
        check.to_string()
    }
}

impl TryFrom<String> for Check {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

/// Returns an upper bound of how deeply a check is nested: the number of opening parentheses and `not`s outside its literals.
fn nesting(text: &str) -> usize {
    let (mut quoted, mut escaped, mut outside) = (false, false, String::new());
    for character in text.chars() {
        match (quoted, escaped, character) {
            (true, false, '\\') => escaped = true,
            (_, false, '"') => quoted = !quoted,
            (true, ..) => escaped = false,
            (false, ..) => outside.push(character),
        }
    }
    outside.matches('(').count() + outside.matches("not ").count()
}
