//! The quoted literal that actions, checks and observations share, and its grammar.

use crate::error::{Error, Result};

/// Maximum length in characters of a literal that a grammar lets a model write.
pub const LITERAL_CHARS: usize = 120;

/// The Lark rule `literal`, which allows a quoted literal.
pub const LITERAL_RULE: &str = r#"literal: /"([^"\\\x00-\x1F]|\\["\\]){0,120}"/"#;

/// Quotes a text on one line: `"` and `\` are escaped, control characters become spaces.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Parses a quoted literal at the beginning of `input`; returns the literal and the rest.
///
/// # Errors
/// The input does not begin with a quoted literal; `what` names the thing that is being parsed, for the message.
pub fn unquote<'a>(what: &'static str, input: &'a str) -> Result<(String, &'a str)> {
    let Some(body) = input.strip_prefix('"') else {
        return Err(Error::parse(what, input, "expected a text in double quotes"));
    };
    let mut out = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &body[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped)) => out.push(escaped),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(Error::parse(what, input, "the closing double quote is missing"))
}

/// Replaces each run of white space by one space, and trims the ends.
pub fn squash(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Escapes a text for use inside a Lark string literal.
pub fn lark_string(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}
