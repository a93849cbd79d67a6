//! `milepost suite demo`: runs one unseen task of each level with the live view.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use milepost_improve::host::EnvironmentKind;
use milepost_runtime::{EpisodeStore, Policy, Verifier};
use milepost_suites::Level;
use milepost_suites::play::Player;

use super::templates::templates;
use crate::cli::TemplatesArg;
use crate::config::Config;
use crate::exit::{BadConfig, Exit};
use crate::signals::cancellation;
use crate::suite::{EpisodeEnvironment, play};
use crate::terminal::LiveView;
use crate::{model, wiring};

/// Runs the tasks with this test seed, and prints the results, where they are recorded, and the next commands to try.
pub async fn demo(seed: u64, config: Config) -> Result<Exit> {
    model::check(&config).context(BadConfig)?;
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let model = model::load(&config).await?;
    let policy = model.policy(config.policy.planner, &config.policy);
    let player = Player {
        policy: Some(&policy as &dyn Policy),
        verifier: Some(&*model.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: config.episodes.screenshots,
        generation: model.engine.generation().id(),
        cancel: cancel.clone(),
    };
    let mut environment = EpisodeEnvironment::open(EnvironmentKind::Browser, &config).await?;
    let (mut lines, mut ids) = (Vec::new(), Vec::new());
    for level in Level::ALL {
        let templates = templates(level, TemplatesArg::Trained);
        let template = templates[usize::try_from(seed)? % templates.len()];
        let instance = template.instantiate(seed);
        println!("\n{} task ({}, seed {seed}): {}", level.name(), template.id, instance.goal());
        let mut view = LiveView::new(std::io::stdout(), std::io::stdout().is_terminal());
        let played = play(&instance, seed, &mut environment, &player, &config, &mut view).await?;
        println!("{}", if played.solved { "solved: the site's own state says so" } else { "not solved, says the site's own state" });
        lines.push(format!(
            "{} {} in {} actions",
            level.name(),
            if played.solved { "solved" } else { "not solved" },
            played.episode.steps.len()
        ));
        ids.push(played.episode.id);
        if cancel.is_cancelled() {
            break;
        }
    }
    environment.close().await?;
    let directory = store.directory().display();
    println!("\nA model of {} ran {} unseen tasks in a real browser: {}.", config.local.model, ids.len(), lines.join(", "));
    println!("Every step is recorded: milepost episodes show {}; screenshots in {directory}/screenshots/{}/", ids[0], ids[0]);
    println!("Next: milepost run \"your goal\" --url https://…, or milepost suite run for figures.");
    Ok(if cancel.is_cancelled() { Exit::Cancelled } else { Exit::Done })
}
