//! `milepost drive`: the agent's hands without the model.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_runtime::text::unquote;
use milepost_runtime::{Action, Environment, Observation, Outcome, Task, Tool};
use serde_json::json;

use super::print_json;
use crate::cli::DriveArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::wiring;

/// Carries out action lines from a file or the terminal.
pub async fn drive(args: DriveArgs, mut config: Config) -> Result<Exit> {
    let task = Task::new("drive", &args.url)?;
    config.browser.headless &= !args.headed;
    let script = match &args.script {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("the script {} cannot be read; check the path", file.display()))
                .map_err(|error| error.context(super::BadConfig))?,
        ),
        None => None,
    };
    let mut browser = wiring::browser(&config, config.secrets()?).await?;
    let tools = wiring::tools(&config)?;
    let driven = drive_lines(&args, &config, &task, &mut browser, &tools, script).await;
    browser.close().await?;
    driven
}

async fn drive_lines(
    args: &DriveArgs,
    config: &Config,
    task: &Task,
    environment: &mut dyn Environment,
    tools: &[Arc<dyn Tool>],
    script: Option<String>,
) -> Result<Exit> {
    environment.reset(task).await?;
    let mut observation = environment.observe().await?;
    let mut all_ok = true;
    if !args.json {
        println!("{}", observation.render(config.policy.page_lines));
    }
    let mut scripted = script.as_deref().map(str::lines);
    let interactive = script.is_none() && std::io::stdin().is_terminal();
    loop {
        let line = match &mut scripted {
            Some(lines) => lines.next().map(str::to_owned),
            None => prompt(interactive)?,
        };
        let Some(line) = line else { break };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "quit" {
            break;
        }
        let outcome = match resolve(line, &observation) {
            Ok(Action::Answer { .. } | Action::Stop(_)) => break,
            Ok(action) => perform(&action, &observation, task, environment, tools).await?,
            Err(error) => Outcome::failed(error.to_string()),
        };
        observation = environment.observe().await?;
        observation.tool_result.clone_from(&outcome.result);
        all_ok &= outcome.ok;
        show(args, config, line, &outcome, &observation)?;
    }
    Ok(if all_ok { Exit::Done } else { Exit::Failed })
}

fn prompt(interactive: bool) -> Result<Option<String>> {
    if interactive {
        print!("> ");
        std::io::stdout().flush()?;
    }
    let mut line = String::new();
    Ok((std::io::stdin().lock().read_line(&mut line)? > 0).then_some(line))
}

/// Reads an action line; `click button "Save"` stands for the id of the element with that role and name.
fn resolve(line: &str, observation: &Observation) -> milepost_runtime::Result<Action> {
    let mut words = line.splitn(3, ' ');
    if let (Some(verb @ ("click" | "type" | "select")), Some(role), Some(rest)) = (words.next(), words.next(), words.next())
        && role.parse::<u32>().is_err()
        && rest.starts_with('"')
    {
        let (name, tail) = unquote("action", rest)?;
        let element = observation
            .find(role, &name)
            .ok_or_else(|| milepost_runtime::Error::BadInput(format!("there is no {role} {name:?} on the page")))?;
        return Action::parse(&format!("{verb} {} {}", element.id, tail.trim()));
    }
    Action::parse(line)
}

async fn perform(
    action: &Action,
    observation: &Observation,
    task: &Task,
    environment: &mut dyn Environment,
    tools: &[Arc<dyn Tool>],
) -> Result<Outcome> {
    Ok(match (action, action.invalid_on(observation)) {
        (_, Some(reason)) => Outcome::failed(format!("invalid: {reason}")),
        (Action::Call { tool, arguments }, None) => match tools.iter().find(|known| known.form().name == *tool) {
            None => Outcome::failed(format!("invalid: there is no tool {tool:?}")),
            Some(known) => match known.call(arguments, task).await {
                Ok(result) => Outcome { result: Some(result), ..Outcome::done() },
                Err(error) => Outcome::failed(error.to_string()),
            },
        },
        (action, None) => environment.act(action).await?,
    })
}

fn show(args: &DriveArgs, config: &Config, line: &str, outcome: &Outcome, observation: &Observation) -> Result<()> {
    if args.json {
        return print_json(
            &json!({ "action": line, "ok": outcome.ok, "error": outcome.error, "changed": observation.changed, "observation": observation }),
        );
    }
    match &outcome.error {
        Some(error) => println!("✗ {error}"),
        None => println!("{}", observation.render(config.policy.page_lines)),
    }
    Ok(())
}
