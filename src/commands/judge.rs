//! `milepost judge audit`: a model judge against the ground truth of suite episodes.

use std::collections::BTreeMap;

use anyhow::Result;
use milepost_planners::{CachedJudge, ModelJudge};
use milepost_runtime::config::Screenshots;
use milepost_runtime::{Episode, EpisodeStore, Judged, Limits, NoListener, PlanScores, Policy, Question, Verdicts, Verifier};
use milepost_suites::{Instance, Level, Template};
use serde_json::json;

use super::suite::episode::{Place, Played, Player, play};
use super::suite::{level, templates};
use super::{BadConfig, cancellation, print_json};
use crate::agreement::{Agreement, agreement};
use crate::cli::{AuditArgs, JudgeCommand, TemplatesArg};
use crate::config::Config;
use crate::exit::Exit;
use crate::wiring::{self, Mind};

/// Pairs of grades (truth, verdict) by question.
type Pairs = BTreeMap<&'static str, Vec<(u8, Option<u8>)>>;

/// The questions with their highest grade.
const GRADES: [(&str, u8); 6] = [
    ("completeness", 1),
    ("adherence", 2),
    ("end_to_end", 2),
    ("plan_correctness", 5),
    ("plan_executability", 5),
    ("plan_standardization", 5),
];

/// Runs a `judge` command.
pub async fn main(command: JudgeCommand, config: Config) -> Result<Exit> {
    match command {
        JudgeCommand::Audit(args) => audit(args, config).await,
    }
}

async fn audit(args: AuditArgs, config: Config) -> Result<Exit> {
    wiring::check_model(&config).map_err(|error| error.context(BadConfig))?;
    let store = wiring::store(&config).await?;
    let (cancel, mind) = (cancellation(), Mind::load(&config).await?);
    let policy = mind.policy(args.planner.unwrap_or(config.policy.planner), &config);
    let player = Player {
        policy: (!args.oracle).then_some(&policy as &dyn Policy),
        verifier: Some(&mind.verifier as &dyn Verifier),
        store: &store as &dyn EpisodeStore,
        screenshots: Screenshots::Off,
        generation: mind.engine.generation().id(),
        cancel: cancel.clone(),
    };
    let model = ModelJudge::new(mind.engine.clone(), config.judge.clone())?;
    let judge = CachedJudge::open(model, &store.directory().join("verdicts.jsonl"))?;
    let levels = args.level.map_or(Level::ALL.to_vec(), |argument| vec![level(argument)]);
    let templates: Vec<&Template> = levels.into_iter().flat_map(|level| templates(level, TemplatesArg::Trained)).collect();
    let mut place = Place::open(args.environment, &config).await?;
    let (mut pairs, mut solved) = (Pairs::new(), 0);
    for index in 0..args.episodes {
        if *cancel.borrow() {
            break;
        }
        // Spread over the levels, also where there are fewer episodes than templates.
        let template = templates[usize::try_from(index)? * templates.len() / usize::try_from(args.episodes)?.max(1) % templates.len()];
        let seed = args.first_seed + index;
        let instance = template.instantiate(seed);
        let limits = if args.cut_short && index % 2 == 1 { half_way(&instance, &config.limits) } else { config.limits.clone() };
        let config = Config { limits, ..config.clone() };
        let played = play(&instance, seed, &mut place, &player, &config, &mut NoListener).await?;
        solved += u64::from(played.solved);
        let verdicts = Verdicts::ask(&judge, &played.episode, &questions(&played.episode, args.steps)).await;
        compare(&played, &verdicts, args.steps, &mut pairs);
        tracing::info!(template = template.id, seed, solved = played.solved, ?verdicts);
    }
    place.close().await?;
    let rows: Vec<(&str, Agreement)> =
        GRADES.iter().map(|(question, top)| (*question, agreement(pairs.get(question).map_or(&[], Vec::as_slice), *top))).collect();
    if args.json {
        let questions: serde_json::Map<_, _> = rows.iter().map(|(question, row)| ((*question).to_owned(), json!(row))).collect();
        print_json(&json!({ "judge": mind.engine.generation().id(), "samples": config.judge.samples, "episodes": args.episodes,
            "solved": solved, "questions": questions }))?;
    } else {
        print_table(&rows);
    }
    Ok(if *cancel.borrow() { Exit::Cancelled } else { Exit::Done })
}

/// Limits that end an episode after half of the oracle's plan.
fn half_way(instance: &Instance, limits: &Limits) -> Limits {
    let half = instance.oracle().first_plan().len() / 2;
    Limits { max_steps: u32::try_from(half).unwrap_or(u32::MAX).clamp(1, limits.max_steps), ..limits.clone() }
}

/// The steps whose adherence is asked for: at most so many, spread over the episode.
fn sampled(steps: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = steps.min(most);
    (0..count).map(move |index| index * steps / count)
}

fn questions(episode: &Episode, steps: usize) -> Vec<Question> {
    let steps = sampled(episode.steps.len(), steps).map(|step| Question::Adherence { step });
    [Question::Completeness, Question::EndToEnd, Question::PlanQuality].into_iter().chain(steps).collect()
}

/// Puts truths and verdicts side by side, rounded to whole grades; where the truth cannot be told, there is nothing to compare.
fn compare(Played { episode, verdicts: truth, .. }: &Played, verdicts: &Verdicts, steps: usize, pairs: &mut Pairs) {
    let mut put = |question, truth: Option<f64>, verdict: Option<f64>| {
        let grade = |value: f64| value.round() as u8;
        if let Some(truth) = truth {
            pairs.entry(question).or_default().push((grade(truth), verdict.map(grade)));
        }
    };
    let complete = |verdicts: &Verdicts| {
        let judged = verdicts.completeness.as_ref()?;
        Some(judged.verdict.iter().filter(|complete| **complete).count() as f64 / judged.verdict.len().max(1) as f64)
    };
    let grade = |judged: Option<&Judged<f64>>| judged.map(|judged| judged.verdict);
    put("completeness", complete(truth), complete(verdicts));
    put("end_to_end", grade(truth.end_to_end.as_ref()), grade(verdicts.end_to_end.as_ref()));
    for step in sampled(episode.steps.len(), steps) {
        let at = |verdicts: &Verdicts| grade(verdicts.adherence.get(step).and_then(Option::as_ref));
        put("adherence", at(truth), at(verdicts));
    }
    let (truth, verdict) = (truth.plan_quality.as_ref(), verdicts.plan_quality.as_ref());
    let scores = |plan: &PlanScores| [plan.correctness, plan.executability, plan.standardization];
    for (index, question) in ["plan_correctness", "plan_executability", "plan_standardization"].into_iter().enumerate() {
        let score = |judged: &Judged<PlanScores>| scores(&judged.verdict)[index];
        put(question, truth.map(score), verdict.map(score));
    }
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

#[cfg(test)]
mod tests {
    use super::sampled;

    #[test]
    fn steps_are_spread_over_the_episode() {
        for (steps, most, want) in [(3, 4, vec![0, 1, 2]), (8, 4, vec![0, 2, 4, 6]), (9, 2, vec![0, 4]), (5, 0, vec![]), (0, 4, vec![])] {
            assert_eq!(sampled(steps, most).collect::<Vec<_>>(), want);
        }
    }
}
