//! Secrets: named values bound to an origin, written `{{secret:name}}` in actions and typed by the driver only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use url::Url;

use crate::error::{Error, Result};
use crate::observation::Observation;
use crate::text::squash;

/// Fewest bytes of a value. A shorter one stands everywhere on a page: replaced it would spoil the page, left alone it would leak.
const SHORTEST: usize = 4;

/// Fewest UTF-16 units of an element's name or value that an observation may have cut.
const SHORTEST_CUT: usize = 300;

/// How a placeholder begins.
const OPENS: &str = "{{secret:";

/// A secret's value and the only origin it may be typed on.
#[derive(Clone)]
struct Secret {
    value: String,
    origin: String,
    /// The value as it stands in a text, in JSON, in a document's source and in addresses.
    forms: BTreeSet<String>,
}

/// Known secrets; never printed, serialised or logged.
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
    /// Adds a secret that may be typed on the origin of `url` only; one that [`Secrets::can_be_hidden`] refuses is never typed.
    pub fn add(&mut self, name: &str, value: &str, url: &Url) {
        let origin = url.origin().ascii_serialization();
        self.by_name.insert(name.to_owned(), Secret { value: value.to_owned(), origin, forms: forms(value) });
    }

    /// Whether a value can be kept out of prompts, logs and episodes.
    ///
    /// # Errors
    /// A value of fewer than 4 bytes.
    pub fn can_be_hidden(name: &str, value: &str) -> Result<()> {
        if value.len() >= SHORTEST {
            return Ok(());
        }
        let reason = format!(
            "its value has fewer than {SHORTEST} bytes, and cannot be told from other text to keep it out of episodes; give it a longer value"
        );
        Err(Error::Secret { name: name.to_owned(), reason })
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Only those with these names.
    pub fn only(&self, names: &[String]) -> Self {
        let chosen = self.by_name.iter().filter(|(name, _)| names.contains(name));
        Self { by_name: chosen.map(|(name, secret)| (name.clone(), secret.clone())).collect() }
    }

    /// Replaces each `{{secret:name}}` by its value, for typing on `page`.
    ///
    /// # Errors
    /// An unknown secret, one bound to another origin, or one whose value cannot be hidden afterwards.
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

    /// Replaces every secret value in what was seen of a page. Where the observation left something out, a text may end in the middle of
    /// a value; in an element of `veiled`, which a secret was typed into, keys may have taken away its end.
    pub fn scrub_page(&self, page: &mut Observation, veiled: &HashSet<u32>) {
        if self.by_name.is_empty() {
            return;
        }
        let clean = |text: &mut String| *text = self.scrub(text);
        [&mut page.url, &mut page.title, &mut page.text].into_iter().chain(&mut page.tabs).chain(&mut page.dialog).for_each(clean);
        for element in &mut page.elements {
            element.options.iter_mut().for_each(clean);
            let veiled = veiled.contains(&element.id);
            for (text, veiled) in [(&mut element.name, false)].into_iter().chain(element.value.as_mut().map(|value| (value, veiled))) {
                clean(text);
                if veiled || page.truncated && text.encode_utf16().count() >= SHORTEST_CUT {
                    self.scrub_end(text, veiled);
                }
            }
        }
    }

    /// Replaces the beginning of a value with which a text ends. It must be long enough to be told from other text, or, where a secret was
    /// typed, the whole.
    fn scrub_end(&self, text: &mut String, typed: bool) {
        let secrets = self.by_name.iter().flat_map(|(name, secret)| secret.forms.iter().map(move |form| (name, form)));
        let begun = secrets.flat_map(|(name, form)| form.char_indices().skip(1).map(move |(at, _)| (name, &form[..at])));
        let ends = begun.filter(|(_, begun)| text.ends_with(begun) && (begun.len() >= SHORTEST || typed && begun.len() == text.len()));
        if let Some((name, begun)) = ends.max_by_key(|(_, begun)| begun.len()) {
            text.truncate(text.len() - begun.len());
            text.push_str(&format!("{OPENS}{name}}}}}"));
        }
    }

    /// Replaces every secret value in `text` by its placeholder: what may be recorded. Values are also known as JSON, HTML and addresses
    /// write them; one that a page encodes in another way, or shows in parts, is not.
    pub fn scrub(&self, text: &str) -> String {
        let secrets = self.by_name.iter();
        let mut forms: Vec<(&str, &str)> =
            secrets.flat_map(|(name, secret)| secret.forms.iter().map(move |form| (form.as_str(), name.as_str()))).collect();
        if forms.is_empty() {
            return text.to_owned();
        }
        // The longest first: of a value that holds another nothing may be left over.
        forms.sort_by_key(|(form, _)| Reverse(form.len()));
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(first) = rest.chars().next() {
            // What is scrubbed already stays as it is, also where a value stands in a name.
            let name = rest.strip_prefix(OPENS).and_then(|rest| rest.split_once("}}")).map(|(name, _)| name);
            if let Some(name) = name.filter(|name| self.by_name.contains_key(*name)) {
                let (whole, behind) = rest.split_at(OPENS.len() + name.len() + 2);
                out.push_str(whole);
                rest = behind;
                continue;
            }
            match forms.iter().find(|(form, _)| rest.starts_with(*form)) {
                Some((form, name)) => {
                    out.push_str(&format!("{{{{secret:{name}}}}}"));
                    rest = &rest[form.len()..];
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

/// How a value may be written where it comes back.
fn forms(value: &str) -> BTreeSet<String> {
    if value.len() < SHORTEST {
        return BTreeSet::new();
    }
    let json = serde_json::Value::String(value.to_owned()).to_string();
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let attribute = text.replace('"', "&quot;").replace('\'', "&#39;");
    let form: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let component = form.replace('+', "%20");
    // What `encodeURIComponent` leaves as it is.
    let script = [("%21", "!"), ("%27", "'"), ("%28", "("), ("%29", ")"), ("%7E", "~")]
        .into_iter()
        .fold(component.clone(), |text, (encoded, plain)| text.replace(encoded, plain));
    let quoted = json[1..json.len() - 1].to_owned();
    [value.to_owned(), squash(value), quoted, text, attribute, form, component, script]
        .into_iter()
        .filter(|form| form.len() >= SHORTEST)
        .collect()
}

/// The names of the secrets that a text refers to.
pub fn names(text: &str) -> Vec<String> {
    text.split("{{secret:").skip(1).filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.to_owned())).collect()
}
