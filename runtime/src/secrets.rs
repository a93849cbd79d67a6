//! Secrets: named values bound to an origin, written `{{secret:name}}` in actions and typed by the driver only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use url::Url;

use crate::error::{Error, Result};
use crate::observation::Observation;
use crate::text::squash;

/// Minimum length of a value in bytes. A shorter value occurs in too many places on a page: replacing it would garble the page, and leaving
/// it would leak it.
const MIN_LENGTH: usize = 4;

/// Minimum length, in UTF-16 units, of a name or value of an element that an observation may have cut.
const MIN_CUT_LENGTH: usize = 300;

/// The beginning of a placeholder.
const PLACEHOLDER_START: &str = "{{secret:";

/// A secret's value and the only origin it may be typed on.
#[derive(Clone)]
struct Secret {
    value: String,
    origin: String,
    /// The value as it is written in plain text, in JSON, in HTML and in addresses.
    encodings: BTreeSet<String>,
}

/// The known secrets. Their values are never printed, serialised or logged.
#[derive(Clone, Default)]
pub struct Secrets {
    by_name: BTreeMap<String, Secret>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Secrets {
    /// Adds a secret that may be typed only on the origin of `url`. A secret that [`Secrets::can_be_hidden`] refuses is never typed.
    pub fn add(&mut self, name: &str, value: &str, url: &Url) {
        let origin = url.origin().ascii_serialization();
        self.by_name.insert(name.to_owned(), Secret { value: value.to_owned(), origin, encodings: encodings(value) });
    }

    /// Checks that a value can be kept out of prompts, logs and episodes.
    ///
    /// # Errors
    /// The value has fewer than 4 bytes.
    pub fn can_be_hidden(name: &str, value: &str) -> Result<()> {
        if value.len() >= MIN_LENGTH {
            return Ok(());
        }
        let reason = format!(
            "its value has fewer than {MIN_LENGTH} bytes, and cannot be told from other text to keep it out of episodes; give it a longer value"
        );
        Err(Error::Secret { name: name.to_owned(), reason })
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Returns the secrets with these names.
    pub fn only(&self, names: &[String]) -> Self {
        let chosen = self.by_name.iter().filter(|(name, _)| names.contains(name));
        Self { by_name: chosen.map(|(name, secret)| (name.clone(), secret.clone())).collect() }
    }

    /// Replaces each `{{secret:name}}` by its value, to be typed on `page`.
    ///
    /// # Errors
    /// A secret is unknown, bound to another origin, or has a value that could not be hidden afterwards.
    pub fn reveal(&self, text: &str, page: &Url) -> Result<String> {
        let mut out = text.to_owned();
        for name in names(text) {
            let secret = self.by_name.get(&name).ok_or_else(|| Error::Secret {
                name: name.clone(),
                reason: "it is not known; give it with `--secret NAME=env:VARIABLE` or under `secrets` in the configuration".into(),
            })?;
            let here = page.origin().ascii_serialization();
            if here != secret.origin {
                return Err(Error::Secret { name, reason: format!("it is bound to {}, not to {here}", secret.origin) });
            }
            Self::can_be_hidden(&name, &secret.value)?;
            out = out.replace(&format!("{{{{secret:{name}}}}}"), &secret.value);
        }
        Ok(out)
    }

    /// Replaces every secret value in an observation. If the observation left something out, a text may end in the middle of a value. In
    /// the elements `typed_into`, into which secrets were typed, key presses may have removed the end of a value.
    pub fn scrub_page(&self, page: &mut Observation, typed_into: &HashSet<u32>) {
        if self.by_name.is_empty() {
            return;
        }
        let clean = |text: &mut String| *text = self.scrub(text);
        [&mut page.url, &mut page.title, &mut page.text].into_iter().chain(&mut page.tabs).chain(&mut page.dialog).for_each(clean);
        for element in &mut page.elements {
            element.options.iter_mut().for_each(clean);
            let typed = typed_into.contains(&element.id);
            for (text, typed) in [(&mut element.name, false)].into_iter().chain(element.value.as_mut().map(|value| (value, typed))) {
                clean(text);
                if typed || page.truncated && text.encode_utf16().count() >= MIN_CUT_LENGTH {
                    self.scrub_end(text, typed);
                }
            }
        }
    }

    /// Replaces the beginning of a secret value at the end of a text. The beginning must be long enough to be distinguished from other
    /// text, or, in a field into which a secret was typed, be the whole text.
    fn scrub_end(&self, text: &mut String, typed: bool) {
        let values = self.by_name.iter().flat_map(|(name, secret)| secret.encodings.iter().map(move |value| (name, value)));
        let prefixes = values.flat_map(|(name, value)| value.char_indices().skip(1).map(move |(at, _)| (name, &value[..at])));
        let found =
            prefixes.filter(|(_, prefix)| text.ends_with(prefix) && (prefix.len() >= MIN_LENGTH || typed && prefix.len() == text.len()));
        if let Some((name, prefix)) = found.max_by_key(|(_, prefix)| prefix.len()) {
            text.truncate(text.len() - prefix.len());
            text.push_str(&format!("{PLACEHOLDER_START}{name}}}}}"));
        }
    }

    /// Replaces every secret value in `text` by its placeholder, so that the text may be recorded. Values are also found as JSON, HTML and
    /// addresses write them. A value that a page encodes in another way, or shows in parts, is not found.
    pub fn scrub(&self, text: &str) -> String {
        let secrets = self.by_name.iter();
        let mut values: Vec<(&str, &str)> =
            secrets.flat_map(|(name, secret)| secret.encodings.iter().map(move |value| (value.as_str(), name.as_str()))).collect();
        if values.is_empty() {
            return text.to_owned();
        }
        // The longest first: no part of a value that contains another one may remain.
        values.sort_by_key(|(value, _)| Reverse(value.len()));
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(first) = rest.chars().next() {
            // Placeholders stay as they are, even if a value occurs in the name.
            let name = rest.strip_prefix(PLACEHOLDER_START).and_then(|rest| rest.split_once("}}")).map(|(name, _)| name);
            if let Some(name) = name.filter(|name| self.by_name.contains_key(*name)) {
                let (whole, behind) = rest.split_at(PLACEHOLDER_START.len() + name.len() + 2);
                out.push_str(whole);
                rest = behind;
                continue;
            }
            match values.iter().find(|(value, _)| rest.starts_with(*value)) {
                Some((value, name)) => {
                    out.push_str(&format!("{{{{secret:{name}}}}}"));
                    rest = &rest[value.len()..];
                }
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }
}

/// Returns the ways in which a page, a tool or an error may write a value.
fn encodings(value: &str) -> BTreeSet<String> {
    if value.len() < MIN_LENGTH {
        return BTreeSet::new();
    }
    let json = serde_json::Value::String(value.to_owned()).to_string();
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let attribute = text.replace('"', "&quot;").replace('\'', "&#39;");
    let form: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let component = form.replace('+', "%20");
    // The characters that JavaScript's `encodeURIComponent` does not encode.
    let script = [("%21", "!"), ("%27", "'"), ("%28", "("), ("%29", ")"), ("%7E", "~")]
        .into_iter()
        .fold(component.clone(), |text, (encoded, plain)| text.replace(encoded, plain));
    let quoted = json[1..json.len() - 1].to_owned();
    [value.to_owned(), squash(value), quoted, text, attribute, form, component, script]
        .into_iter()
        .filter(|encoding| encoding.len() >= MIN_LENGTH)
        .collect()
}

/// Returns the names of the secrets to which a text refers.
pub fn names(text: &str) -> Vec<String> {
    text.split("{{secret:").skip(1).filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.to_owned())).collect()
}
