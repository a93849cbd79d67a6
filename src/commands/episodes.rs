//! `milepost episodes`: lists, shows, explains, exports and prunes recorded episodes, and quarantines hosts.

use anyhow::{Result, bail};
use chrono::{Duration, Utc};
use milepost_improve::failures::{DecisionReason, FailureClass, FailureConfig, KeyDecision, explain};
use milepost_runtime::store::{Pruned, bare_host};
use milepost_runtime::{Episode, EpisodeStore, Error, Event, Listener, SqliteStore};

use crate::cli::EpisodesCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;
use crate::terminal::LiveView;
use crate::wiring;

/// Runs an `episodes` command.
pub async fn main(command: EpisodesCommand, config: Config) -> Result<Exit> {
    let store = wiring::store(&config).await?;
    match command {
        EpisodesCommand::List { limit, json } => list(&store, limit, json).await?,
        EpisodesCommand::Why { id, json } => why(&store, &id, &config.failures, json).await?,
        EpisodesCommand::Show { id, json: false } => show(&load(&store, &id).await?),
        EpisodesCommand::Show { id, json: true } | EpisodesCommand::Export { id, .. } => print_json(&load(&store, &id).await?)?,
        EpisodesCommand::Quarantine { host, reason, release, json } => {
            if let Some(host) = host.as_deref().map(host_of).transpose()? {
                match release {
                    false => store.quarantine(&host, &reason).await?,
                    true if store.release(&host).await? => {}
                    true => bail!(Error::BadInput(format!("{host} is not in quarantine; `milepost episodes quarantine` lists what is"))),
                }
            }
            let kept_out = store.quarantined().await?;
            match json {
                true => print_json(&kept_out)?,
                false => kept_out.iter().for_each(|one| println!("{}  since {}  {}", one.host, one.since, one.reason)),
            }
        }
        EpisodesCommand::Prune { days, json } => {
            let days = days.unwrap_or(config.episodes.retention_days);
            let pruned = store.prune(Utc::now() - Duration::days(i64::from(days))).await?;
            match json {
                true => print_json(&pruned)?,
                false => print_pruned(&pruned, days),
            }
        }
    }
    Ok(Exit::Done)
}

/// Prints the number of removed episodes and the space that was freed.
fn print_pruned(pruned: &Pruned, days: u32) {
    let Pruned { episodes, screenshots, screenshot_bytes, database_bytes, not_reclaimed } = pruned;
    let freed = (screenshot_bytes + database_bytes) as f64 / 1e6;
    println!("removed {episodes} episodes older than {days} days, and {screenshots} folders of screenshots; {freed:.1} MB are free again");
    if let Some(reason) = not_reclaimed {
        println!("the database keeps the space of the removed episodes for later ones: {reason}");
    }
}

fn host_of(text: &str) -> Result<String> {
    bare_host(text).ok_or_else(|| Error::BadInput(format!("{text:?} is no host; write one such as shop.example")).into())
}

async fn load(store: &SqliteStore, id: &str) -> Result<Episode> {
    match store.load(id).await? {
        Some(episode) => Ok(episode),
        None => {
            bail!(Error::BadInput(format!("there is no episode {id:?} (or several begin with it); `milepost episodes list` shows them")))
        }
    }
}

async fn list(store: &SqliteStore, limit: u32, json: bool) -> Result<()> {
    let episodes = store.list(limit).await?;
    if json {
        return print_json(&episodes);
    }
    for episode in &episodes {
        let outcome = match episode.success {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        };
        println!(
            "{outcome} {}  {}  {:<8} {:<14} {:>3} steps  {}",
            episode.id,
            episode.started_at.format("%Y-%m-%d %H:%M"),
            episode.policy,
            episode.stop.as_deref().unwrap_or("died"),
            episode.steps,
            episode.goal.chars().take(80).collect::<String>()
        );
    }
    Ok(())
}

async fn why(store: &SqliteStore, id: &str, config: &FailureConfig, json: bool) -> Result<()> {
    let episode = load(store, id).await?;
    let explanation = explain(store, config, &episode).await?;
    if json {
        return print_json(&explanation);
    }
    println!("episode {}\ngoal    {}", episode.id, episode.task.goal);
    let Some(class) = explanation.class else {
        let known =
            if episode.success.is_some() { "it succeeded" } else { "its outcome was never verified: whether it failed is not known" };
        println!("class   none: {known}");
        return Ok(());
    };
    let reason = match class {
        FailureClass::WrongTermination => "wrong termination: the agent ended it itself, and was judged wrong",
        FailureClass::Stuck => "stuck midway: its last actions repeat themselves, or nothing went on",
        FailureClass::NoAttempt => "no reasonable attempt: nothing of its plan was left to do, or it was over after very few actions",
        FailureClass::Other => "none of the known kinds",
    };
    println!("class   {reason}");
    // Turns count from 0, the steps of `episodes show` from 1.
    let place = |turn: u32| format!("step {}", turn + 1);
    match explanation.key {
        None => println!("key     no step stands out: no success of this goal is recorded that it left, and it ends in no loop"),
        Some(KeyDecision { turn, action, reason: DecisionReason::Diverged { from, instead } }) => {
            println!("key     {}: {action}\n        where episode {from}, a success, did: {instead}", place(turn));
        }
        Some(KeyDecision { turn, action, reason: DecisionReason::Loop { period: 1 } }) => {
            println!("key     {}: {action}, and that again until the end", place(turn))
        }
        Some(KeyDecision { turn, action, reason: DecisionReason::Loop { period } }) => {
            println!("key     {}: {action}; from here on the same {period} actions repeat until the end", place(turn));
        }
    }
    Ok(())
}

/// Prints an episode in the form of the live view.
fn show(episode: &Episode) {
    println!("episode {}\ngoal    {}\npolicy  {} ({})", episode.id, episode.task.goal, episode.policy, episode.generation);
    let mut view = LiveView::new(std::io::stdout(), false);
    let mut shown = 0;
    for step in &episode.steps {
        if step.plan_version > shown {
            shown = step.plan_version;
            if let Some(plan) = episode.plans.iter().find(|plan| plan.version == shown) {
                view.event(Event::Plan(plan));
            }
        }
        view.event(Event::Step(step));
    }
    view.event(Event::Ended(episode));
}
