//! `milepost adapters list|show|diff|promote|rollback`: the registry of generations.

use std::path::Path;

use anyhow::{Context, Result};
use milepost_improve::comparison::{self, Difference};
use milepost_improve::generations::{self, Row, find};
use milepost_learners::ModelConfig;
use milepost_learners::adapter::ModuleDifference;
use milepost_runtime::AdapterRegistry;
use milepost_runtime::registry::{AdapterChoice, Figure, Incumbent, Occasion};
use serde_json::json;

use crate::config::Config;
use crate::output::print_json;
use crate::{model, wiring};

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
    let shown = generations::details(&wiring::registry(config), id).await?;
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
    let shape = ModelConfig::load(base.map_or_else(|| model::weights(config), Ok)?)?;
    let compared = comparison::compare(&wiring::registry(config), names, &shape).await?;
    if json {
        return print_json(&compared);
    }
    for Difference { key, first, second } in &compared.settings {
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

/// Puts a generation into service after it has passed its probes on the configured model. An adapter that is named by its directory is
/// registered first.
pub async fn promote(config: &Config, name: &str, reason: &str, json: bool) -> Result<()> {
    let registry = wiring::registry(config);
    let with = |adapter| Config { adapter, ..config.clone() };
    let record = if Path::new(name).is_dir() {
        let base = model::load(&with(AdapterChoice::None)).await?.engine.generation();
        registry.register(Path::new(name), &base).await?
    } else {
        find(&registry, name).await?
    };
    let proof = model::load(&with(AdapterChoice::Named(record.id.clone()))).await;
    drop(proof.with_context(|| format!("generation {} was not promoted", record.id))?);
    let record = registry.promote(&record.id, Incumbent::Any, reason).await?;
    if json {
        return print_json(&Row { serving: true, record });
    }
    println!("{} has proved itself and serves from the next start on", record.id);
    Ok(())
}

/// Puts the generation that served before on the configured model back into service.
pub async fn rollback(config: &Config, reason: &str, json: bool) -> Result<()> {
    let back = wiring::registry(config).rollback(&model::recorded_base(config)?, reason).await?;
    if json {
        return print_json(&json!({ "serving": back }));
    }
    println!("{} serves from the next start on", back.as_ref().map_or("the base model", |record| record.id.as_str()));
    Ok(())
}

/// Formats a measured figure as a few words.
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
