//! `milepost suite`: lists templates, shows and serves instances, and runs episodes.

mod demo;
mod report;
mod templates;

use anyhow::Result;
use milepost_suites::{Instance, bundled};
use serde_json::json;

use crate::cli::SuiteCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;
use crate::signals::cancellation;

pub use templates::{find, templates};

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
    cancellation().cancelled().await;
    Ok(Exit::Done)
}
