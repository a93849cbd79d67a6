//! Secrets: named values bound to an origin, written `{{secret:name}}` in actions and typed by the driver only.

use std::collections::BTreeMap;

use url::Url;

use crate::error::{Error, Result};

/// A secret's value and the only origin it may be typed on.
#[derive(Clone)]
struct Secret {
    value: String,
    origin: String,
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
    /// Adds a secret that may be typed on the origin of `url` only.
    pub fn add(&mut self, name: &str, value: &str, url: &Url) {
        self.by_name.insert(name.to_owned(), Secret { value: value.to_owned(), origin: url.origin().ascii_serialization() });
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
    /// An unknown secret, or one bound to another origin.
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
            out = out.replace(&format!("{{{{secret:{name}}}}}"), &secret.value);
        }
        Ok(out)
    }

    /// Replaces every secret value in `text` by its placeholder: what may be recorded.
    pub fn scrub(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (name, secret) in &self.by_name {
            if secret.value.len() >= 4 {
                out = out.replace(&secret.value, &format!("{{{{secret:{name}}}}}"));
            }
        }
        out
    }
}

/// The names of the secrets that a text refers to.
pub fn names(text: &str) -> Vec<String> {
    text.split("{{secret:").skip(1).filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.to_owned())).collect()
}
