//! `milepost judge audit`: compares a model judge with the ground truth of suite episodes.

use anyhow::{Context, Result};
use milepost_improve::agreement::Agreement;
use milepost_improve::audit::{Audit, half_of_plan, spread_template};
use milepost_planners::{CachedJudge, ModelJudge};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{EpisodeStore, NoListener, Policy, Verdicts, Verifier};
use milepost_suites::play::Player;
use milepost_suites::{Level, Template};
use serde_json::json;

use super::suite::templates;
use crate::cli::{AuditArgs, JudgeCommand, TemplatesArg};
use crate::config::Config;
use crate::exit::{BadConfig, Exit};
use crate::output::print_json;
use crate::signals::cancellation;
use crate::suite::{EpisodeEnvironment, play};
use crate::{model, wiring};

/// Runs a `judge` command.
pub async fn main(command: JudgeCommand, config: Config) -> Result<Exit> {
    match command {
        JudgeCommand::Audit(args) => audit(args, config).await,
    }
}

async fn audit(args: AuditArgs, config: Config) -> Result<Exit> {
    model::check(&config).context(BadConfig)?;
    let store = wiring::store(&config).await?;
    let (cancel, model) = (cancellation(), model::load(&config).await?);
    let policy = model.policy(args.planner.unwrap_or(config.policy.planner), &config.policy);
    let player = Player {
        policy: (!args.oracle).then_some(&policy as &dyn Policy),
        verifier: Some(&*model.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: Screenshots::Off,
        generation: model.engine.generation().id(),
        cancel: cancel.clone(),
    };
    let judge = ModelJudge::new(model.engine.clone(), config.judge.clone())?;
    let judge = CachedJudge::open(judge, &store.directory().join("verdicts.jsonl"))?;
    let levels = args.level.map_or(Level::ALL.to_vec(), |argument| vec![argument.into()]);
    let templates: Vec<&Template> = levels.into_iter().flat_map(|level| templates(level, TemplatesArg::Trained)).collect();
    let mut environment = EpisodeEnvironment::open(args.environment.into(), &config).await?;
    let (mut audit, mut solved) = (Audit::new(args.steps), 0);
    for index in 0..args.episodes {
        if cancel.is_cancelled() {
            break;
        }
        let template = templates[spread_template(usize::try_from(index)?, usize::try_from(args.episodes)?, templates.len())];
        let seed = args.first_seed + index;
        let instance = template.instantiate(seed);
        let limits = match args.cut_short && index % 2 == 1 {
            true => half_of_plan(instance.oracle().first_plan().len(), &config.limits),
            false => config.limits.clone(),
        };
        let config = Config { limits, ..config.clone() };
        let played = play(&instance, seed, &mut environment, &player, &config, &mut NoListener).await?;
        solved += u64::from(played.solved);
        let verdicts = Verdicts::ask(&judge, &played.episode, &audit.questions(&played.episode)).await;
        audit.compare(&played.episode, &played.verdicts, &verdicts);
        tracing::info!(template = template.id, seed, solved = played.solved, ?verdicts);
    }
    environment.close().await?;
    let rows = audit.agreement();
    if args.json {
        let questions: serde_json::Map<_, _> = rows.iter().map(|(question, row)| ((*question).to_owned(), json!(row))).collect();
        print_json(&json!({ "judge": model.engine.generation().id(), "samples": config.judge.samples, "episodes": args.episodes,
            "solved": solved, "questions": questions }))?;
    } else {
        print_table(&rows);
    }
    Ok(if cancel.is_cancelled() { Exit::Cancelled } else { Exit::Done })
}

fn print_table(rows: &[(&str, Agreement)]) {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    println!(
        "{:<21} {:>5} {:>8} {:>9} {:>10} {:>7} {:>6} {:>6}",
        "question", "n", "missing", "accuracy", "precision", "recall", "F1", "kappa"
    );
    for (question, row) in rows {
        println!(
            "{question:<21} {:>5} {:>8} {:>9} {:>10} {:>7} {:>6} {:>6}",
            row.n,
            row.missing,
            figure(row.accuracy),
            figure(row.precision),
            figure(row.recall),
            figure(row.f1),
            figure(row.kappa)
        );
    }
    println!("precision, recall and F1 are those of the highest grade");
}
