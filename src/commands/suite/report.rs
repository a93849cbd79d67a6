//! `milepost suite run`: many episodes, one report.

use std::time::Instant;

use anyhow::Result;
use milepost_learners::failures::{FailureConfig, Failures};
use milepost_learners::statistics::{median, wilson};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Episode, EpisodeStore, NoListener, Policy, Verifier};
use milepost_suites::Level;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::episode::{MilestoneCount, Place, Played, Player, play};
use super::{level, templates};
use crate::cli::SuiteRunArgs;
use crate::commands::{cancellation, print_json};
use crate::config::Config;
use crate::exit::Exit;
use crate::wiring::{self, Mind};

/// Episodes after which a browser is replaced: memory of long sessions grows.
const EPISODES_A_BROWSER: u64 = 50;

/// What is counted over all episodes.
#[derive(Default)]
struct Tally {
    milestones: MilestoneCount,
    invalid_actions: u64,
    actions: u64,
    model_ms: Vec<f64>,
    overhead_ms: Vec<f64>,
    failures: Failures,
}

impl Tally {
    fn add(&mut self, rules: &FailureConfig, episode: &Episode, milestones: MilestoneCount) {
        self.milestones += milestones;
        self.failures.add(rules, episode);
        for step in &episode.steps {
            self.actions += 1;
            self.invalid_actions += u64::from(step.outcome.error.as_deref().is_some_and(|error| error.starts_with("invalid:")));
            self.model_ms.push(step.timing.decide_ms);
            self.overhead_ms.push(step.timing.observe_ms + step.timing.verify_ms + step.timing.act_ms + step.timing.record_ms);
        }
    }
}

/// Episodes and successes of a level or a template.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Score {
    episodes: u64,
    solved: u64,
}

/// Runs the episodes and prints the report.
pub async fn run(args: SuiteRunArgs, config: Config) -> Result<Exit> {
    let clock = Instant::now();
    let store = wiring::store(&config).await?;
    let cancel = cancellation();
    let kind = args.planner.unwrap_or(config.policy.planner);
    let mind = if args.oracle { None } else { Some(load(&config).await?) };
    let policy = mind.as_ref().map(|mind| mind.policy(kind, &config));
    let generation = mind.as_ref().map_or("oracle".to_owned(), |mind| mind.engine.generation().id());
    let player = Player {
        policy: policy.as_ref().map(|policy| policy as &dyn Policy),
        verifier: mind.as_ref().map(|mind| &mind.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: if args.screenshots { Screenshots::All } else { Screenshots::Off },
        generation: generation.clone(),
        cancel: cancel.clone(),
    };
    let levels: Vec<Level> = args.level.map_or(Level::ALL.to_vec(), |argument| vec![level(argument)]);
    let bar = crate::progress::episodes(levels.len() as u64 * args.episodes);
    let (mut tally, mut scores, mut by_template) = (Tally::default(), Vec::new(), Map::new());
    let mut place = Place::open(args.environment, &config).await?;
    let mut played_here = 0;
    for level in levels {
        let templates = templates(level, args.templates);
        let mut score = Score::default();
        let mut counts: std::collections::BTreeMap<&str, Score> = std::collections::BTreeMap::new();
        for index in 0..args.episodes {
            if *cancel.borrow() {
                break;
            }
            if played_here == EPISODES_A_BROWSER {
                place.close().await?;
                place = Place::open(args.environment, &config).await?;
                played_here = 0;
            }
            played_here += 1;
            let template = templates[usize::try_from(index)? % templates.len()];
            let seed = args.first_seed + index;
            let Played { episode, solved, milestones, .. } =
                play(&template.instantiate(seed), seed, &mut place, &player, &config, &mut NoListener).await?;
            tally.add(&config.failures, &episode, milestones);
            let count = counts.entry(template.id).or_default();
            for one in [&mut score, count] {
                one.episodes += 1;
                one.solved += u64::from(solved);
            }
            bar.set_message(format!("{} {} of {}", level.name(), score.solved, score.episodes));
            bar.inc(1);
            tracing::info!(template = template.id, seed, solved, stop = ?episode.stop, answer = ?episode.answer, steps = episode.steps.len(), episode = episode.id);
        }
        by_template.extend(counts.into_iter().map(|(id, score)| (id.to_owned(), json!(score))));
        scores.push((level, score));
    }
    bar.finish_and_clear();
    place.close().await?;
    let planner = if args.oracle { "oracle" } else { kind.word() };
    let report = report(&args.suite, planner, &generation, &scores, &mut tally, by_template, clock.elapsed().as_secs_f64());
    if args.json {
        print_json(&report)?
    } else {
        print_table(&report, &scores)
    }
    Ok(if *cancel.borrow() { Exit::Cancelled } else { Exit::Done })
}

async fn load(config: &Config) -> Result<Mind> {
    wiring::check_model(config).map_err(|error| error.context(crate::commands::BadConfig))?;
    Mind::load(config).await
}

fn report(
    suite: &str,
    planner: &str,
    generation: &str,
    scores: &[(Level, Score)],
    tally: &mut Tally,
    templates: Map<String, Value>,
    seconds: f64,
) -> Value {
    let levels: Map<String, Value> = scores
        .iter()
        .map(|(level, score)| {
            (
                level.name().to_owned(),
                json!({ "episodes": score.episodes, "solved": score.solved, "interval": wilson(score.solved, score.episodes) }),
            )
        })
        .collect();
    json!({ "suite": suite, "planner": planner, "generation": generation, "levels": levels, "milestones": tally.milestones,
        "invalid_actions": tally.invalid_actions, "actions": tally.actions, "model_ms_per_action_median": median(&mut tally.model_ms),
        "overhead_ms_per_step_median": median(&mut tally.overhead_ms), "failures": tally.failures, "templates": templates, "seconds": seconds })
}

fn print_table(report: &Value, scores: &[(Level, Score)]) {
    println!("suite {}  planner {}  generation {}", report["suite"], report["planner"], report["generation"]);
    for (level, score) in scores {
        let [low, high] = wilson(score.solved, score.episodes);
        println!(
            "{:<7} {:>4} of {:<4} solved  [{:.0} % to {:.0} %]",
            level.name(),
            score.solved,
            score.episodes,
            low * 100.0,
            high * 100.0
        );
    }
    println!("failures {}", report["failures"]);
    println!("milestones {}  invalid actions {} of {}", report["milestones"], report["invalid_actions"], report["actions"]);
    println!(
        "model {} ms an action, rest {} ms a step (medians), {} s",
        report["model_ms_per_action_median"], report["overhead_ms_per_step_median"], report["seconds"]
    );
}
