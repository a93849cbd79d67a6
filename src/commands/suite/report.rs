//! `milepost suite run`: runs many episodes and prints one report.

use std::time::Instant;

use anyhow::{Context, Result};
use milepost_improve::progress;
use milepost_improve::suite_report::{RunInfo, Score, Tally};
use milepost_planners::LoadedModel;
use milepost_runtime::config::Screenshots;
use milepost_runtime::{EpisodeStore, NoListener, Policy, Verifier};
use milepost_suites::Level;
use milepost_suites::play::{MilestoneCount, Played, Player};
use serde_json::Value;

use super::templates::templates;
use crate::cli::SuiteRunArgs;
use crate::config::Config;
use crate::exit::{BadConfig, Exit};
use crate::output::print_json;
use crate::signals::cancellation;
use crate::suite::{EpisodeEnvironment, play};
use crate::{model, wiring};

/// The number of episodes after which a browser is replaced, because the memory of long sessions grows.
const EPISODES_PER_BROWSER: u64 = 50;

/// Runs the episodes and prints the report.
pub async fn run(args: SuiteRunArgs, config: Config) -> Result<Exit> {
    let clock = Instant::now();
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let kind = args.planner.unwrap_or(config.policy.planner);
    let model = if args.oracle { None } else { Some(load(&config).await?) };
    let policy = model.as_ref().map(|model| model.policy(kind, &config.policy));
    let generation = model.as_ref().map_or("oracle".to_owned(), |model| model.engine.generation().id());
    let player = Player {
        policy: policy.as_ref().map(|policy| policy as &dyn Policy),
        verifier: model.as_ref().map(|model| &*model.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: if args.screenshots { Screenshots::All } else { Screenshots::Off },
        generation: generation.clone(),
        cancel: cancel.clone(),
    };
    let tally = play_levels(&args, &config, &player).await?;
    let scores: Vec<(String, Score)> = tally.scores().map(|(level, score)| (level.to_owned(), score)).collect();
    let planner = if args.oracle { "oracle" } else { kind.word() };
    let info = RunInfo { suite: &args.suite, planner, generation: &generation, seconds: clock.elapsed().as_secs_f64() };
    let report = tally.report(&info);
    if args.json {
        print_json(&report)?
    } else {
        print_table(&report, &scores)
    }
    Ok(if cancel.is_cancelled() { Exit::Cancelled } else { Exit::Done })
}

async fn load(config: &Config) -> Result<LoadedModel> {
    model::check(config).context(BadConfig)?;
    model::load(config).await
}

/// Plays the episodes of each level until all are played or the player is cancelled.
async fn play_levels(args: &SuiteRunArgs, config: &Config, player: &Player<'_>) -> Result<Tally<MilestoneCount>> {
    let levels: Vec<Level> = args.level.map_or(Level::ALL.to_vec(), |argument| vec![argument.into()]);
    let mut tally = Tally::new(levels.iter().map(|level| level.name()), config.failures.clone());
    let bar = progress::episodes(levels.len() as u64 * args.episodes);
    let mut environment = EpisodeEnvironment::open(args.environment.into(), config).await?;
    let mut played_in_browser = 0;
    for level in levels {
        let templates = templates(level, args.templates);
        for index in 0..args.episodes {
            if player.cancel.is_cancelled() {
                break;
            }
            if played_in_browser == EPISODES_PER_BROWSER {
                environment.close().await?;
                environment = EpisodeEnvironment::open(args.environment.into(), config).await?;
                played_in_browser = 0;
            }
            played_in_browser += 1;
            let template = templates[usize::try_from(index)? % templates.len()];
            let seed = args.first_seed + index;
            let Played { episode, solved, milestones, .. } =
                play(&template.instantiate(seed), seed, &mut environment, player, config, &mut NoListener).await?;
            let score = tally.add(level.name(), template.id, &episode, solved, milestones);
            bar.set_message(format!("{} {} of {}", level.name(), score.solved, score.episodes));
            bar.inc(1);
            tracing::info!(template = template.id, seed, solved, stop = ?episode.stop, answer = ?episode.answer, steps = episode.steps.len(), episode = episode.id);
        }
    }
    bar.finish_and_clear();
    environment.close().await?;
    Ok(tally)
}

fn print_table(report: &Value, scores: &[(String, Score)]) {
    println!("suite {}  planner {}  generation {}", report["suite"], report["planner"], report["generation"]);
    for (level, score) in scores {
        let [low, high] = score.interval();
        println!("{level:<7} {:>4} of {:<4} solved  [{:.0} % to {:.0} %]", score.solved, score.episodes, low * 100.0, high * 100.0);
    }
    println!("failures {}", report["failures"]);
    println!("milestones {}  invalid actions {} of {}", report["milestones"], report["invalid_actions"], report["actions"]);
    println!(
        "model {} ms an action, rest {} ms a step (medians), {} s",
        report["model_ms_per_action_median"], report["overhead_ms_per_step_median"], report["seconds"]
    );
}
