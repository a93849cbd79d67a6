//! Configuration keys that were replaced: they are still read, with a warning that names their successor.

use std::path::PathBuf;

use anyhow::{Result, bail};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

/// A key and its successor, each as a path: the names of its sections and its own name, joined by dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplacedKey {
    /// The path of the old key.
    pub(super) old: &'static str,
    /// The path of the key that replaces it.
    pub(super) new: &'static str,
}

/// The keys that were replaced so far.
pub(super) const REPLACED_KEYS: &[ReplacedKey] = &[];

/// A source of configuration values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A configuration file.
    File(PathBuf),
    /// The variables `MILEPOST_…`.
    Environment,
}

impl Source {
    /// Describes a key as it is written here.
    fn key(&self, path: &str) -> String {
        match self {
            Self::File(file) => format!("`{path}` in {}", file.display()),
            Self::Environment => format!("the variable `MILEPOST_{}`", path.to_uppercase().replace('.', "__")),
        }
    }
}

/// The values that one source gives.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The source.
    pub(super) source: Source,
    /// The values.
    pub(super) values: Dict,
}

impl Layer {
    /// Reads the values of a provider.
    ///
    /// # Errors
    /// The provider cannot be read.
    pub(super) fn read(source: Source, provider: impl Provider) -> Result<Self, Box<figment::Error>> {
        Ok(Self { source, values: provider.data()?.remove(&Profile::Default).unwrap_or_default() })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    #[allow(clippy::result_large_err, reason = "the trait gives the signature")]
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok([(Profile::Default, self.values.clone())].into())
    }
}

/// Moves the values of replaced keys to their new keys, and returns a warning for each.
///
/// # Errors
/// A key and its successor are both given, in one source or in two.
pub(super) fn move_replaced(layers: &mut [Layer], keys: &[ReplacedKey]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for ReplacedKey { old, new } in keys {
        let name = |path: &str| layers.iter().find(|layer| get(&layer.values, path).is_some()).map(|layer| layer.source.key(path));
        let Some(old_name) = name(old) else { continue };
        if let Some(new_name) = name(new) {
            bail!("{old_name} was replaced by {new_name}, and both are given; remove the first");
        }
        for layer in layers.iter_mut() {
            let Some(value) = remove(&mut layer.values, old) else { continue };
            if !insert(&mut layer.values, new, value) {
                bail!("{} was replaced by `{new}`, which cannot be set: a key before it is no section", layer.source.key(old));
            }
            warnings.push(format!("{} was replaced by `{new}`; it is still read, but rename it", layer.source.key(old)));
        }
    }
    Ok(warnings)
}

fn get<'a>(values: &'a Dict, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => values.get(path),
        Some((section, rest)) => get(values.get(section)?.as_dict()?, rest),
    }
}

/// Removes a value, and the sections that it was the only value of.
fn remove(values: &mut Dict, path: &str) -> Option<Value> {
    let Some((section, rest)) = path.split_once('.') else { return values.remove(path) };
    let Some(Value::Dict(_, inner)) = values.get_mut(section) else { return None };
    let removed = remove(inner, rest)?;
    if inner.is_empty() {
        values.remove(section);
    }
    Some(removed)
}

/// Inserts a value, and the sections before it; returns false if one of these is no section.
fn insert(values: &mut Dict, path: &str, value: Value) -> bool {
    match path.split_once('.') {
        None => {
            values.insert(path.to_owned(), value);
            true
        }
        Some((section, rest)) => match values.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new())) {
            Value::Dict(_, inner) => insert(inner, rest, value),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use figment::providers::Serialized;
    use serde_json::json;

    use super::*;

    const KEYS: &[ReplacedKey] =
        &[ReplacedKey { old: "driver.path", new: "browser.chromedriver" }, ReplacedKey { old: "speed", new: "limits.speed" }];

    fn layers(file: serde_json::Value, environment: serde_json::Value) -> [Layer; 2] {
        let layer = |source, values| Layer::read(source, Serialized::defaults(values)).unwrap();
        [layer(Source::File("c.yaml".into()), file), layer(Source::Environment, environment)]
    }

    fn check_error(file: serde_json::Value, environment: serde_json::Value, names: &[&str]) {
        let error = move_replaced(&mut layers(file, environment), KEYS).unwrap_err().to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }

    #[test]
    fn an_old_key_is_moved_with_a_warning_that_names_both_and_the_file() {
        let mut found = layers(json!({ "driver": { "path": "x" }, "browser": { "headless": true } }), json!({ "speed": 3 }));
        let warnings = move_replaced(&mut found, KEYS).unwrap();
        assert_eq!(
            warnings,
            [
                "`driver.path` in c.yaml was replaced by `browser.chromedriver`; it is still read, but rename it",
                "the variable `MILEPOST_SPEED` was replaced by `limits.speed`; it is still read, but rename it",
            ]
        );
        assert_eq!(serde_json::to_value(&found[0].values).unwrap(), json!({ "browser": { "chromedriver": "x", "headless": true } }));
        assert_eq!(serde_json::to_value(&found[1].values).unwrap(), json!({ "limits": { "speed": 3 } }));
        let mut again = found.clone();
        assert!(move_replaced(&mut again, KEYS).unwrap().is_empty(), "the new keys give no warning");
    }

    #[test]
    fn an_old_key_in_both_sources_is_moved_in_both() {
        let mut found = layers(json!({ "speed": 1 }), json!({ "speed": 2 }));
        assert_eq!(move_replaced(&mut found, KEYS).unwrap().len(), 2);
        assert!(found.iter().all(|layer| get(&layer.values, "limits.speed").is_some() && get(&layer.values, "speed").is_none()));
    }

    #[test]
    fn a_key_and_its_successor_together_are_an_error_that_names_both() {
        let (old, new) = (json!({ "driver": { "path": "x" } }), json!({ "browser": { "chromedriver": null } }));
        let both = json!({ "driver": { "path": "x" }, "browser": { "chromedriver": "y" } });
        check_error(both, json!({}), &["`driver.path` in c.yaml", "`browser.chromedriver` in c.yaml", "both are given"]);
        check_error(old.clone(), new.clone(), &["`driver.path` in c.yaml", "`MILEPOST_BROWSER__CHROMEDRIVER`"]);
        check_error(new, old, &["`MILEPOST_DRIVER__PATH`", "`browser.chromedriver` in c.yaml"]);
        check_error(json!({ "speed": 1, "limits": 5 }), json!({}), &["`speed` in c.yaml", "no section"]);
    }
}
