//! `milepost adapters list|show|diff|promote|rollback`: the registry of generations.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use milepost_learners::ModelConfig;
use milepost_learners::adapter::{Adapter, Lineage, ModuleDifference, differences, read_lineage};
use milepost_runtime::registry::{Figure, Occasion, Over, read_probes};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Error};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::print_json;
use crate::config::{AdapterChoice, Config};
use crate::generations::{self, Row, find};
use crate::wiring::Mind;
use crate::{serving, wiring};

/// Everything about a generation.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: Row,
    directory: PathBuf,
    lineage: Option<Lineage>,
    /// Tokens on which it proves itself before it serves.
    probe_tokens: usize,
    /// The training's figures by step, and their picture.
    metrics: Option<PathBuf>,
    curve: Option<PathBuf>,
}

/// A setting or figure that two adapters do not share.
#[derive(Serialize)]
struct Differing {
    key: String,
    first: Value,
    second: Value,
}

/// Two adapters side by side.
#[derive(Serialize)]
struct Compared {
    first: String,
    second: String,
    settings: Vec<Differing>,
    figures: [Vec<Figure>; 2],
    modules: Vec<ModuleDifference>,
}

/// Lists all generations, newest first.
pub async fn list(config: &Config, json: bool) -> Result<()> {
    let rows = generations::rows(&wiring::registry(config)).await?;
    if json {
        return print_json(&rows);
    }
    for Row { record, serving } in &rows {
        let mark = if *serving { "▶" } else { " " };
        let when = record.created_at.format("%Y-%m-%d %H:%M");
        let gate = record.figure(Occasion::Gate).map(figure).unwrap_or_default();
        println!("{mark} {}  {when}  {:<12} {:<12} {gate}", record.id, record.status.word(), record.recipe);
    }
    Ok(())
}

/// Shows one generation.
pub async fn show(config: &Config, id: &str, json: bool) -> Result<()> {
    let registry = wiring::registry(config);
    let record = find(&registry, id).await?;
    let directory = registry.directory(&record.id);
    let beside = |file: &str| Some(directory.join(file)).filter(|path| path.is_file());
    let shown = Shown {
        lineage: read_lineage(&directory)?,
        probe_tokens: read_probes(&directory)?.map_or(0, |probes| probes.expected.iter().map(Vec::len).sum()),
        metrics: beside("metrics.jsonl"),
        curve: beside("curve.svg"),
        row: Row { serving: registry.serving()?.contains(&record.id), record },
        directory,
    };
    if json {
        return print_json(&shown);
    }
    let record = &shown.row.record;
    println!("generation {}{}", record.id, if shown.row.serving { ", in service" } else { "" });
    println!("status     {}", record.status.word());
    println!("parent     {}", record.generation.parent.as_deref().unwrap_or("the base model"));
    println!("base       {}, prompts {}", record.generation.base, record.generation.prompts);
    if let Some(lineage) = &shown.lineage {
        println!("made by    {}, seed {}, from {} episodes", lineage.recipe, lineage.seed, lineage.episodes.len());
        lineage.figures.iter().for_each(|(name, value)| println!("           {name} {value:.4}"));
    }
    println!("proof      {} tokens", shown.probe_tokens);
    shown.curve.iter().chain(&shown.metrics).for_each(|path| println!("curve      {}", path.display()));
    println!("directory  {}", shown.directory.display());
    for measured in &record.figures {
        println!("{:?}: {}: {}", measured.occasion, figure(measured), measured.reason);
    }
    for change in &record.history {
        println!("{}  {:<12} {}", change.at.format("%Y-%m-%d %H:%M:%S"), change.status.word(), change.reason);
    }
    Ok(())
}

/// Compares two adapters.
pub async fn diff(config: &Config, names: [&str; 2], base: Option<&Path>, json: bool) -> Result<()> {
    let registry = wiring::registry(config);
    let model = ModelConfig::load(base.map_or_else(|| config.weights(), Ok)?)?;
    let [first, second] = [resolve(&registry, names[0]).await?, resolve(&registry, names[1]).await?];
    let mut settings = Vec::new();
    differing("", &described(&first.0)?, &described(&second.0)?, &mut settings);
    let modules = differences(&Adapter::load(&first.0, &model)?, &Adapter::load(&second.0, &model)?);
    let compared = Compared { first: names[0].into(), second: names[1].into(), settings, figures: [first.1, second.1], modules };
    if json {
        return print_json(&compared);
    }
    for Differing { key, first, second } in &compared.settings {
        println!("{key}: {first} → {second}");
    }
    for (name, figures) in [&compared.first, &compared.second].into_iter().zip(&compared.figures) {
        figures.iter().for_each(|measured| println!("{name} {:?}: {}", measured.occasion, figure(measured)));
    }
    println!("{:>10} {:>10} {:>10}  norms of what is added to a module: first, second, their difference", "first", "second", "apart");
    for ModuleDifference { module, first, second, difference } in &compared.modules {
        println!("{first:10.4} {second:10.4} {difference:10.4}  {module}");
    }
    Ok(())
}

/// Puts a generation into service once it has proved itself on the configured model; a directory is registered first.
pub async fn promote(config: &Config, name: &str, reason: &str, json: bool) -> Result<()> {
    let registry = wiring::registry(config);
    let with = |adapter| Config { adapter, ..config.clone() };
    let record = if Path::new(name).is_dir() {
        let base = Mind::load(&with(AdapterChoice::None)).await?.engine.generation();
        registry.register(Path::new(name), &base).await?
    } else {
        find(&registry, name).await?
    };
    let proof = Mind::load(&with(AdapterChoice::Named(record.id.clone()))).await;
    drop(proof.with_context(|| format!("generation {} was not promoted", record.id))?);
    let record = registry.promote(&record.id, Over::Anything, reason).await?;
    if json {
        return print_json(&Row { serving: true, record });
    }
    println!("{} has proved itself and serves from the next start on", record.id);
    Ok(())
}

/// Goes back to what served before on the configured model.
pub async fn rollback(config: &Config, reason: &str, json: bool) -> Result<()> {
    let back = wiring::registry(config).rollback(&serving::base(config)?, reason).await?;
    if json {
        return print_json(&json!({ "serving": back }));
    }
    println!("{} serves from the next start on", back.as_ref().map_or("the base model", |record| record.id.as_str()));
    Ok(())
}

/// An adapter's directory and figures, by directory or id.
async fn resolve(registry: &DirectoryRegistry, name: &str) -> Result<(PathBuf, Vec<Figure>)> {
    if Path::new(name).is_dir() {
        return Ok((name.into(), Vec::new()));
    }
    let record = find(registry, name).await?;
    Ok((registry.directory(&record.id), record.figures))
}

/// What an adapter's files say of it, as one object.
fn described(directory: &Path) -> Result<Value> {
    let mut all = Map::new();
    let lineage = read_lineage(directory)?;
    if let Some(lineage) = &lineage {
        all.insert("lineage".into(), serde_json::to_value(lineage)?);
    }
    let path = directory.join("adapter_config.json");
    let text = std::fs::read(&path).map_err(|error| Error::file(&path, format!("cannot be read: {error}")))?;
    let shape = serde_json::from_slice(&text).map_err(|error| Error::file(&path, format!("is no JSON: {error}")))?;
    all.insert("adapter".into(), shape);
    Ok(Value::Object(all))
}

/// Collects the leaves in which two values differ, by their path.
fn differing(path: &str, first: &Value, second: &Value, found: &mut Vec<Differing>) {
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differing(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        _ if first == second => {}
        _ => found.push(Differing { key: path.into(), first: first.clone(), second: second.clone() }),
    }
}

/// A measurement in a few words.
fn figure(figure: &Figure) -> String {
    let mut text = format!("{} of {}", figure.candidate[0], figure.candidate[1]);
    if let Some([solved, tasks]) = figure.incumbent {
        text.push_str(&format!(" against {solved} of {tasks}"));
    }
    if let Some(p) = figure.p {
        text.push_str(&format!(", p {p:.4}"));
    }
    text
}
