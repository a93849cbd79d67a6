//! `milepost drive`: carries out action lines without a model.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use milepost_runner::{LineResult, ManualSession};
use milepost_runtime::{Environment, Observation, Outcome, Task};
use serde_json::json;

use crate::cli::DriveArgs;
use crate::config::Config;
use crate::exit::{BadConfig, Exit};
use crate::output::print_json;
use crate::wiring;

/// Carries out action lines from a file or the terminal.
pub async fn drive(args: DriveArgs, mut config: Config) -> Result<Exit> {
    let task = Task::new("drive", &args.url)?;
    config.browser.headless &= !args.headed;
    let script = match &args.script {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("the script {} cannot be read; check the path", file.display()))
                .context(BadConfig)?,
        ),
        None => None,
    };
    let mut browser = wiring::browser(&config, config.secrets()?).await?;
    let driven = drive_lines(&args, &config, &task, &mut browser, script).await;
    browser.close().await?;
    driven
}

async fn drive_lines(
    args: &DriveArgs,
    config: &Config,
    task: &Task,
    environment: &mut dyn Environment,
    script: Option<String>,
) -> Result<Exit> {
    let tools = milepost_runner::browser::tools(config.browser.proxy.as_deref())?;
    let mut session = ManualSession::open(task, environment, &tools).await?;
    if !args.json {
        println!("{}", session.observation().render(config.policy.page_lines));
    }
    let mut scripted = script.as_deref().map(str::lines);
    let interactive = script.is_none() && std::io::stdin().is_terminal();
    let mut all_ok = true;
    loop {
        let line = match &mut scripted {
            Some(lines) => lines.next().map(str::to_owned),
            None => prompt(interactive)?,
        };
        let Some(line) = line else { break };
        match session.run_line(&line).await? {
            LineResult::Skipped => {}
            LineResult::Ended => break,
            LineResult::Acted(outcome) => {
                all_ok &= outcome.ok;
                show(args, config, line.trim(), &outcome, session.observation())?;
            }
        }
    }
    Ok(if all_ok { Exit::Done } else { Exit::Failed })
}

/// Reads a line from the terminal, after a prompt if a person types there; returns `None` at the end of the input.
fn prompt(interactive: bool) -> Result<Option<String>> {
    if interactive {
        print!("> ");
        std::io::stdout().flush()?;
    }
    let mut line = String::new();
    Ok((std::io::stdin().lock().read_line(&mut line)? > 0).then_some(line))
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
