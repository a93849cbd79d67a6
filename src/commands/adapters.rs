//! `milepost adapters`: look into, merge and export adapters; what concerns the registry is in [`generations`].

use std::path::Path;

use anyhow::{Context, Result};
use milepost_learners::adapter::{Adapter, export_gguf, read_lineage};
use milepost_learners::{Model, ModelConfig};
use serde::Serialize;

use super::{generations, print_json};
use crate::cli::{AdaptersCommand, ExportFormat};
use crate::config::Config;
use crate::exit::Exit;

/// Files of a model directory that a merged model takes over as they are.
const TEXT_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What `inspect` says.
#[derive(Serialize)]
struct Report {
    rank: usize,
    alpha: f32,
    targets: Vec<&'static str>,
    tensors: usize,
    parameters: usize,
    /// Frobenius norms of `B`, by module: all zero means an adapter that changes nothing.
    norms: Vec<(String, f64)>,
    lineage: Option<milepost_learners::adapter::Lineage>,
}

/// Runs an `adapters` command.
pub async fn main(command: AdaptersCommand, config: &Config) -> Result<Exit> {
    match command {
        AdaptersCommand::List(args) => generations::list(config, args.json).await?,
        AdaptersCommand::Show { id, json } => generations::show(config, &id, json).await?,
        AdaptersCommand::Diff { first, second, base, json } => {
            generations::diff(config, [&first, &second], base.as_deref(), json).await?;
        }
        AdaptersCommand::Promote { id, reason, json } => generations::promote(config, &id, &reason, json).await?,
        AdaptersCommand::Rollback { reason, json } => generations::rollback(config, &reason, json).await?,
        AdaptersCommand::Inspect { directory, base, json } => inspect(&directory, &base, json)?,
        AdaptersCommand::Merge { directory, base, out } => merge(&directory, &base, &out)?,
        AdaptersCommand::Export { directory, base, format: ExportFormat::Gguf, out } => {
            let config = ModelConfig::load(&base)?;
            export_gguf(&Adapter::load(&directory, &config)?, &config, &out)?;
            println!("{}", out.display());
        }
    }
    Ok(Exit::Done)
}

fn inspect(directory: &Path, base: &Path, json: bool) -> Result<()> {
    let adapter = Adapter::load(directory, &ModelConfig::load(base)?)?;
    let norm = |range: std::ops::Range<usize>| adapter.data[range].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let report = Report {
        rank: adapter.config.rank,
        alpha: adapter.config.alpha,
        targets: adapter.config.targets.iter().map(|target| target.module()).collect(),
        tensors: adapter.tensors.len(),
        parameters: adapter.data.len(),
        norms: adapter
            .tensors
            .iter()
            .filter(|tensor| tensor.name.ends_with("lora_B.weight"))
            .map(|tensor| (tensor.name.clone(), norm(tensor.range.clone())))
            .collect(),
        lineage: read_lineage(directory)?,
    };
    if json {
        return print_json(&report);
    }
    println!("rank {}, alpha {}, {} parameters in {} tensors", report.rank, report.alpha, report.parameters, report.tensors);
    println!("targets {}", report.targets.join(", "));
    match &report.lineage {
        Some(lineage) => println!(
            "made by {} from {}, {} episodes",
            lineage.recipe,
            lineage.parent.as_deref().unwrap_or("the base model"),
            lineage.episodes.len()
        ),
        None => println!("no lineage: it was not made here"),
    }
    for (name, norm) in &report.norms {
        println!("  {norm:10.4}  {name}");
    }
    Ok(())
}

fn merge(directory: &Path, base: &Path, out: &Path) -> Result<()> {
    let mut model = Model::load(base)?;
    model.adapter = Some(Adapter::load(directory, &model.config)?);
    model.merged()?.save(out)?;
    for file in TEXT_FILES.iter().filter(|file| base.join(file).is_file()) {
        std::fs::copy(base.join(file), out.join(file)).with_context(|| format!("{} cannot be copied", base.join(file).display()))?;
    }
    println!("{}", out.display());
    Ok(())
}
