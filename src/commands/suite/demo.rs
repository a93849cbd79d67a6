//! `milepost suite demo`: one unseen task of each level, live.

use std::io::IsTerminal;

use anyhow::Result;
use milepost_runtime::{EpisodeStore, Policy, Verifier};
use milepost_suites::Level;

use super::episode::{Place, Player, play};
use super::templates;
use crate::cli::{PlaceArg, TemplatesArg};
use crate::commands::{BadConfig, cancellation};
use crate::config::Config;
use crate::exit::Exit;
use crate::live::LiveView;
use crate::wiring::{self, Mind};

/// Runs the tasks with this test seed and says in three lines what happened and where to look.
pub async fn demo(seed: u64, config: Config) -> Result<Exit> {
    wiring::check_model(&config).map_err(|error| error.context(BadConfig))?;
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let mind = Mind::load(&config).await?;
    let policy = mind.policy(config.policy.planner, &config);
    let player = Player {
        policy: Some(&policy as &dyn Policy),
        verifier: Some(&mind.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: config.episodes.screenshots,
        generation: mind.engine.generation().id(),
        cancel: cancel.clone(),
    };
    let mut place = Place::open(PlaceArg::Browser, &config).await?;
    let (mut lines, mut ids) = (Vec::new(), Vec::new());
    for level in Level::ALL {
        let templates = templates(level, TemplatesArg::Trained);
        let template = templates[usize::try_from(seed)? % templates.len()];
        let instance = template.instantiate(seed);
        println!("\n{} task ({}, seed {seed}): {}", level.name(), template.id, instance.goal());
        let mut view = LiveView::new(std::io::stdout(), std::io::stdout().is_terminal());
        let played = play(&instance, seed, &mut place, &player, &config, &mut view).await?;
        println!("{}", if played.solved { "solved: the site's own state says so" } else { "not solved, says the site's own state" });
        lines.push(format!(
            "{} {} in {} actions",
            level.name(),
            if played.solved { "solved" } else { "not solved" },
            played.episode.steps.len()
        ));
        ids.push(played.episode.id);
        if *cancel.borrow() {
            break;
        }
    }
    place.close().await?;
    let directory = store.directory().display();
    println!("\nA model of {} ran {} unseen tasks in a real browser: {}.", config.local.model, ids.len(), lines.join(", "));
    println!("Every step is recorded: milepost episodes show {}; screenshots in {directory}/screenshots/{}/", ids[0], ids[0]);
    println!("Next: milepost run \"your goal\" --url https://…, or milepost suite run for figures.");
    Ok(if *cancel.borrow() { Exit::Cancelled } else { Exit::Done })
}
