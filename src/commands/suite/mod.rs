//! `milepost suite`: list, show, serve, run.

mod demo;
pub mod episode;
mod report;

use anyhow::{Result, bail};
use milepost_runtime::Error;
use milepost_suites::{Instance, Level, Template, bundled};
use serde_json::json;

use super::{cancellation, print_json};
use crate::cli::{LevelArg, SuiteCommand, TemplatesArg};
use crate::config::Config;
use crate::exit::Exit;

/// Runs a `suite` command.
pub async fn main(command: SuiteCommand, config: Config) -> Result<Exit> {
    match command {
        SuiteCommand::List(args) => list(args.json)?,
        SuiteCommand::Show { template, seed, json } => show(&find(&template)?.instantiate(seed), json)?,
        SuiteCommand::Serve { template, seed, port } => return serve(&find(&template)?.instantiate(seed), port).await,
        SuiteCommand::Demo { seed } => return demo::demo(seed, config).await,
        SuiteCommand::Run(args) => return report::run(args, config).await,
    }
    Ok(Exit::Done)
}

/// The template with this id.
pub fn find(id: &str) -> Result<&'static Template> {
    match bundled().iter().find(|template| template.id == id) {
        Some(template) => Ok(template),
        None => {
            let nearest = bundled().iter().max_by(|a, b| strsim::jaro_winkler(a.id, id).total_cmp(&strsim::jaro_winkler(b.id, id)));
            let hint = nearest.map(|template| format!("; did you mean {}?", template.id)).unwrap_or_default();
            bail!(Error::BadInput(format!("there is no template {id:?}{hint} (`milepost suite list` shows all)")))
        }
    }
}

/// The level behind an argument.
pub fn level(argument: LevelArg) -> Level {
    match argument {
        LevelArg::Easy => Level::Easy,
        LevelArg::Medium => Level::Medium,
        LevelArg::Long => Level::Long,
    }
}

/// The templates of a level that an argument asks for.
pub fn templates(level: Level, which: TemplatesArg) -> Vec<&'static Template> {
    let wanted = |template: &&Template| match which {
        TemplatesArg::Trained => !template.held_out,
        TemplatesArg::HeldOut => template.held_out,
        TemplatesArg::All => true,
    };
    bundled().iter().filter(|template| template.level == level).filter(wanted).collect()
}

fn list(as_json: bool) -> Result<()> {
    let rows: Vec<_> = bundled()
        .iter()
        .map(|template| {
            json!({ "id": template.id, "site": template.site.name(), "level": template.level.name(), "held_out": template.held_out,
                    "revises": template.revises, "answers": template.answers, "fetches": template.fetches })
        })
        .collect();
    if as_json {
        return print_json(&rows);
    }
    for template in bundled() {
        let marks =
            [(template.held_out, "held out"), (template.revises, "revises"), (template.answers, "answers"), (template.fetches, "fetches")];
        let marks: Vec<&str> = marks.into_iter().filter_map(|(holds, mark)| holds.then_some(mark)).collect();
        println!("{:<7} {:<9} {:<28} {}", template.level.name(), template.site.name(), template.id, marks.join(", "));
    }
    Ok(())
}

fn show(instance: &Instance, as_json: bool) -> Result<()> {
    let plan: Vec<String> = instance.oracle().first_plan().iter().map(ToString::to_string).collect();
    let milestones: Vec<_> = instance.milestones().into_iter().map(|milestone| (milestone.text, milestone.check.to_string())).collect();
    if as_json {
        return print_json(
            &json!({ "goal": instance.goal(), "start_path": instance.start_path(), "oracle_plan": plan, "milestones": milestones,
            "answer": instance.expected_answer() }),
        );
    }
    println!("goal   {}\nstart  {}", instance.goal(), instance.start_path());
    for (index, step) in plan.iter().enumerate() {
        println!("{:>4}. {step}", index + 1);
    }
    for (text, check) in milestones {
        println!("milestone  {text}   [{check}]");
    }
    if let Some(answer) = instance.expected_answer() {
        println!("answer contains {answer:?}");
    }
    Ok(())
}

async fn serve(instance: &Instance, port: u16) -> Result<Exit> {
    let served = instance.serve_on(port).await?;
    let start = served.url.join(instance.start_path())?;
    println!("goal   {}\nserving {start} (Ctrl-C ends)", instance.goal());
    for (name, value) in instance.secrets() {
        println!("secret {name} = {value}");
    }
    let mut cancel = cancellation();
    cancel.wait_for(|cancelled| *cancelled).await?;
    Ok(Exit::Done)
}
