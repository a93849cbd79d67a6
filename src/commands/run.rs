//! `milepost run`: runs one task.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use milepost_runner::{TaskRun, run_task};
use milepost_runtime::{Check, Episode, Error, Listener, NoListener, Secrets, Task};
use milepost_tools::mcp::McpTools;

use crate::cli::RunArgs;
use crate::config::{Config, secret_value};
use crate::exit::{BadConfig, Exit};
use crate::output::print_json;
use crate::signals::cancellation;
use crate::terminal::LiveView;
use crate::{model, wiring};

/// Runs one task in a browser and records the episode.
pub async fn run(args: RunArgs, mut config: Config) -> Result<Exit> {
    let mut task = Task::new(&args.goal, &args.url)?;
    task.check = args.want.check.as_deref().map(Check::parse).transpose()?;
    task.limits = config.limits.clone();
    task.limits.max_steps = args.want.max_steps.unwrap_or(task.limits.max_steps);
    task.capability.hosts.extend(args.want.hosts.iter().cloned());
    config.browser.headless &= !args.headed;
    let secrets = secrets(&args.secrets, &task, &config)?;
    task.capability.secrets = secrets.names();
    model::check(&config).context(BadConfig)?;

    let mcp = McpTools::connect(&config.mcp).await?;
    mcp.allow(&mut task);
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let model = model::load(&config).await?;
    let (mut silent, mut view) = (NoListener, LiveView::new(std::io::stdout(), std::io::stdout().is_terminal()));
    let listener: &mut dyn Listener = if args.json { &mut silent } else { &mut view };
    let planner = args.want.planner.unwrap_or(config.policy.planner);
    let run = TaskRun { task, planner, seed: args.seed, model: &model, secrets, mcp: &mcp, store: &store, cancel };
    let (episode, blocked) = run_task(run, &wiring::run_settings(&config), listener).await?;
    if !blocked.is_empty() {
        let hosts = blocked.into_iter().collect::<Vec<_>>().join(", ");
        eprintln!("milepost: connections to other hosts, the page's or Chromium's own, were refused: {hosts} (allow one with --host)");
    }
    report(&episode, args.json)?;
    Ok(Exit::of(&episode))
}

/// Reads the configured secrets and those of the command line, which are bound to the start page's origin.
fn secrets(given: &[String], task: &Task, config: &Config) -> Result<Secrets> {
    let mut secrets = config.secrets()?;
    for secret in given {
        let Some((name, from)) = secret.split_once('=') else {
            bail!(Error::BadInput(format!("{secret:?} is no secret; write NAME=env:VARIABLE")))
        };
        secrets.add(name, &secret_value(name, from).context(BadConfig)?, &task.start_url);
    }
    Ok(secrets)
}

fn report(episode: &Episode, json: bool) -> Result<()> {
    if json {
        return print_json(episode);
    }
    if let Some(success) = episode.success {
        println!("your check {}", if success { "holds" } else { "does not hold" });
    }
    if let Some(reason) = episode.undecided_check() {
        println!("your check could not be decided: {reason}");
    }
    println!("episode {} (milepost episodes show {})", episode.id, &episode.id);
    Ok(())
}
