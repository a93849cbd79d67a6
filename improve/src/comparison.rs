//! Compares two adapters: their settings, their measured figures, and the distance between their weights.

use std::path::{Path, PathBuf};

use milepost_learners::ModelConfig;
use milepost_learners::adapter::{Adapter, ModuleDifference, differences, read_lineage};
use milepost_runtime::registry::Figure;
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Error as RuntimeError};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::generations::find;

/// A setting or figure in which two adapters differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The path of the key: the keys of the enclosing objects and its own, joined by dots.
    pub key: String,
    /// The value of the first adapter; null if it has none.
    pub first: Value,
    /// The value of the second adapter; null if it has none.
    pub second: Value,
}

/// Two adapters side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The first adapter, as it was named.
    pub first: String,
    /// The second adapter, as it was named.
    pub second: String,
    /// The entries of `lineage.json` and `adapter_config.json` that differ.
    pub settings: Vec<Difference>,
    /// The measured figures of both; an adapter that is named by its directory has none.
    pub figures: [Vec<Figure>; 2],
    /// The norms of the updates of each module.
    pub modules: Vec<ModuleDifference>,
}

/// Compares two adapters of a model, each named by a generation's id or by a directory.
///
/// # Errors
/// There is no such generation or directory, its files cannot be read, or an adapter does not belong to the model.
pub async fn compare(registry: &DirectoryRegistry, names: [&str; 2], model: &ModelConfig) -> Result<Comparison> {
    let [first, second] = [resolve(registry, names[0]).await?, resolve(registry, names[1]).await?];
    let settings = differing_entries(&settings(&first.0)?, &settings(&second.0)?);
    let modules = differences(&Adapter::load(&first.0, model)?, &Adapter::load(&second.0, model)?);
    Ok(Comparison { first: names[0].into(), second: names[1].into(), settings, figures: [first.1, second.1], modules })
}

/// Finds an adapter's directory and figures by its directory or its generation's id.
async fn resolve(registry: &DirectoryRegistry, name: &str) -> Result<(PathBuf, Vec<Figure>)> {
    if Path::new(name).is_dir() {
        return Ok((name.into(), Vec::new()));
    }
    let record = find(registry, name).await?;
    Ok((registry.directory(&record.id), record.figures))
}

/// Reads `lineage.json` and `adapter_config.json` of an adapter as one object.
fn settings(directory: &Path) -> Result<Value> {
    let mut all = Map::new();
    if let Some(lineage) = read_lineage(directory)? {
        all.insert("lineage".into(), serde_json::to_value(lineage)?);
    }
    let path = directory.join("adapter_config.json");
    let text = std::fs::read(&path).map_err(|error| RuntimeError::file(&path, format!("cannot be read: {error}")))?;
    let shape = serde_json::from_slice(&text).map_err(|error| RuntimeError::file(&path, format!("is no JSON: {error}")))?;
    all.insert("adapter".into(), shape);
    Ok(Value::Object(all))
}

/// Lists the entries in which two values differ. Objects are compared key by key, everything else as a whole.
fn differing_entries(first: &Value, second: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect_differences("", first, second, &mut found);
    found
}

fn collect_differences(path: &str, first: &Value, second: &Value, found: &mut Vec<Difference>) {
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect_differences(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        _ if first == second => {}
        _ => found.push(Difference { key: path.into(), first: first.clone(), second: second.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use milepost_learners::adapter::{Lineage, LoraConfig, LoraInit};
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_that_differ_are_listed_with_their_path() {
        let first = json!({ "lr": 0.1, "lora": { "rank": 8, "targets": ["q"] }, "only": 1 });
        let second = json!({ "lr": 0.1, "lora": { "rank": 16, "targets": ["q", "v"] }, "other": null, "new": { "a": 2 } });
        let found: Vec<(String, Value, Value)> =
            differing_entries(&first, &second).into_iter().map(|entry| (entry.key, entry.first, entry.second)).collect();
        let entry = |key: &str, first: Value, second: Value| (key.to_owned(), first, second);
        assert_eq!(
            found,
            [
                entry("lora.rank", json!(8), json!(16)),
                entry("lora.targets", json!(["q"]), json!(["q", "v"])),
                entry("only", json!(1), Value::Null),
                entry("new", Value::Null, json!({ "a": 2 })),
            ],
            "an entry that is null on one side and missing on the other is the same"
        );
    }

    #[tokio::test]
    async fn adapters_are_compared_by_directory() {
        let directory = tempfile::tempdir().unwrap();
        let model = ModelConfig::seed(64, 0, 1);
        let save = |name: &str, rank: usize| {
            let adapter = Adapter::fresh(LoraConfig { rank, ..LoraConfig::default() }, &model, 1, LoraInit::Random).unwrap();
            let path = directory.path().join(name);
            adapter.save(&path, "base", &Lineage { seed: rank as u64, ..Lineage::default() }).unwrap();
            path.display().to_string()
        };
        let (first, second) = (save("a", 8), save("b", 16));
        let registry = DirectoryRegistry::new(directory.path().join("adapters"));
        let comparison = compare(&registry, [&first, &second], &model).await.unwrap();
        let keys: Vec<&str> = comparison.settings.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["lineage.seed", "adapter.r"]);
        assert!(comparison.figures.iter().all(Vec::is_empty) && comparison.modules.iter().all(|module| module.difference > 0.0));
        let missing = compare(&registry, [&first, "nothing"], &model).await.unwrap_err();
        assert!(missing.to_string().contains("there is no generation \"nothing\""), "{missing}");
    }
}
