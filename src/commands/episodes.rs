//! `milepost episodes`: list, show, why, export, quarantine, prune.

use anyhow::{Result, bail};
use chrono::{Duration, Utc};
use milepost_learners::failures::{FailureClass, FailureConfig, KeyDecision, Why, classify, key_decision};
use milepost_runtime::store::bare_host;
use milepost_runtime::{Episode, EpisodeStore, Error, Event, Listener, SqliteStore};
use serde::Serialize;

use super::print_json;
use crate::cli::EpisodesCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::live::LiveView;
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
                false => println!(
                    "removed {} episodes older than {days} days, and {} folders of screenshots",
                    pruned.episodes, pruned.screenshots
                ),
            }
        }
    }
    Ok(Exit::Done)
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

/// The newest successes of the same goal that a failure is compared with.
const PEERS: u32 = 16;

/// What `episodes why --json` prints.
#[derive(Serialize)]
struct Explained {
    episode: String,
    success: Option<bool>,
    class: Option<FailureClass>,
    key: Option<KeyDecision>,
}

async fn why(store: &SqliteStore, id: &str, config: &FailureConfig, json: bool) -> Result<()> {
    let episode = load(store, id).await?;
    let class = classify(config, &episode);
    let key = if class.is_some() { key_decision(config, &episode, &successes(store, &episode).await?) } else { None };
    let explained = Explained { episode: episode.id.clone(), success: episode.success, class, key };
    if json {
        return print_json(&explained);
    }
    println!("episode {}\ngoal    {}", episode.id, episode.task.goal);
    let Some(class) = class else {
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
    // `episodes show` counts from 1.
    let place = |turn: u32| format!("step {}", turn + 1);
    match explained.key {
        None => println!("key     no step stands out: no success of this goal is recorded that it left, and it ends in no loop"),
        Some(KeyDecision { turn, action, why: Why::Diverged { from, instead } }) => {
            println!("key     {}: {action}\n        where episode {from}, a success, did: {instead}", place(turn));
        }
        Some(KeyDecision { turn, action, why: Why::Loop { period: 1 } }) => {
            println!("key     {}: {action}, and that again until the end", place(turn))
        }
        Some(KeyDecision { turn, action, why: Why::Loop { period } }) => {
            println!("key     {}: {action}; from here on the same {period} actions repeat until the end", place(turn));
        }
    }
    Ok(())
}

/// The newest successes of an episode's task.
async fn successes(store: &SqliteStore, episode: &Episode) -> Result<Vec<Episode>> {
    let mut peers = Vec::new();
    for id in store.successes(&episode.task.goal, PEERS).await? {
        let peer = store.load(&id).await?;
        peers.extend(peer.filter(|peer| peer.task.start_url == episode.task.start_url && peer.task.source == episode.task.source));
    }
    Ok(peers)
}

/// Shows an episode as its run was shown.
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
