//! `milepost episodes`: list, show, export, prune.

use anyhow::{Result, bail};
use chrono::{Duration, Utc};
use milepost_runtime::{Episode, EpisodeStore, Error, Event, Listener, SqliteStore};

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
        EpisodesCommand::Show { id, json: false } => show(&load(&store, &id).await?),
        EpisodesCommand::Show { id, json: true } | EpisodesCommand::Export { id, .. } => print_json(&load(&store, &id).await?)?,
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
