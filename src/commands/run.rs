//! `milepost run`: one task.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use milepost_runtime::{Agent, Check, Environment, Episode, Listener, NoListener, Task};
use milepost_tools::mcp::McpTools;

use super::{cancellation, print_json};
use crate::cli::RunArgs;
use crate::config::{Config, secret_value};
use crate::exit::Exit;
use crate::live::LiveView;
use crate::wiring::{self, Mind};

/// Runs one task in a browser and records the episode.
pub async fn run(args: RunArgs, mut config: Config) -> Result<Exit> {
    let mut task = Task::new(&args.goal, &args.url)?;
    task.check = args.want.check.as_deref().map(Check::parse).transpose()?;
    task.limits = config.limits.clone();
    task.limits.max_steps = args.want.max_steps.unwrap_or(task.limits.max_steps);
    task.capability.hosts.extend(args.want.hosts.iter().cloned());
    config.browser.headless &= !args.headed;
    let mut secrets = config.secrets()?;
    for secret in &args.secrets {
        let Some((name, from)) = secret.split_once('=') else {
            bail!(milepost_runtime::Error::BadInput(format!("{secret:?} is no secret; write NAME=env:VARIABLE")))
        };
        let value = secret_value(name, from).map_err(|error| error.context(super::BadConfig))?;
        secrets.add(name, &value, &task.start_url);
    }
    task.capability.secrets = secrets.names();
    wiring::check_model(&config).map_err(|error| error.context(super::BadConfig))?;

    let mcp = McpTools::connect(&config.mcp).await?;
    mcp.allow(&mut task);
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let mind = Mind::load(&config).await?;
    let policy = mind.policy(args.want.planner.unwrap_or(config.policy.planner), &config);
    let egress = wiring::confine(&mut config, &task).await?;
    let mut browser = wiring::browser(&config, secrets).await?;
    let mut silent = NoListener;
    let mut view = LiveView::new(std::io::stdout(), std::io::stdout().is_terminal());
    let listener: &mut dyn Listener = if args.json { &mut silent } else { &mut view };
    let mut tools = wiring::tools(&config)?;
    tools.extend(mcp.tools());
    let agent = Agent {
        policy: &policy,
        verifier: Some(&mind.verifier),
        environment: &mut browser,
        tools: &tools,
        store: &store,
        listener,
        overseer: None,
        cancel,
        screenshots: config.episodes.screenshots,
        generation: mind.engine.generation().id(),
        seed: args.seed,
    };
    let episode = agent.run(task).await;
    let closed = browser.close().await;
    let episode = episode?;
    closed.context("the browser could not be closed cleanly")?;
    if let Some(egress) = &egress {
        let blocked: std::collections::BTreeSet<String> = egress.blocked().into_iter().map(|blocked| blocked.host).collect();
        if !blocked.is_empty() {
            let hosts = blocked.into_iter().collect::<Vec<_>>().join(", ");
            eprintln!("milepost: connections to other hosts, the page's or Chromium's own, were refused: {hosts} (allow one with --host)");
        }
    }
    report(&episode, args.json)?;
    Ok(Exit::of(&episode))
}

fn report(episode: &Episode, json: bool) -> Result<()> {
    if json {
        return print_json(episode);
    }
    if let Some(success) = episode.success {
        println!("your check {}", if success { "holds" } else { "does not hold" });
    }
    println!("episode {} (milepost episodes show {})", episode.id, &episode.id);
    Ok(())
}
