//! `milepost adapters`: inspects, merges and exports adapters; the commands on the registry are in [`generations`].

use std::path::Path;

use anyhow::{Context, Result};
use milepost_learners::adapter::{Adapter, AdapterSummary, export_gguf};
use milepost_learners::{Model, ModelConfig};

use super::generations;
use crate::cli::{AdaptersCommand, ExportFormat};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;

/// The files of a model directory that are copied to a merged model unchanged.
const TEXT_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

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
    let summary = AdapterSummary::read(directory, base)?;
    if json {
        return print_json(&summary);
    }
    println!("rank {}, alpha {}, {} parameters in {} tensors", summary.rank, summary.alpha, summary.parameters, summary.tensors);
    println!("targets {}", summary.targets.join(", "));
    match &summary.lineage {
        Some(lineage) => println!(
            "made by {} from {}, {} episodes",
            lineage.recipe,
            lineage.parent.as_deref().unwrap_or("the base model"),
            lineage.episodes.len()
        ),
        None => println!("no lineage: it was not made here"),
    }
    for (name, norm) in &summary.norms {
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
