//! The walk over the calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::report::Progress;
use super::{ActorKind, CreditKind, Credited, PolicyConfig, Report, Rollout, Status, Turn, assign};
use crate::advantages::flat;
use crate::doctor::Level;
use crate::doctor::policy::{PolicyUpdate, diagnose_update};
use crate::losses::{Action, Loss, Sample, clip_fraction, correction, kl_loss, mean_kl, mira_loss, moved, policy_loss};
use crate::optim::Step;
use crate::statistics::Average;
use crate::{Batch, Error, Result, Scored, Sequence, Trainer};

/// Most calls that stay together for their common beginning.
const BUNDLE: usize = 8;

/// Batches, or so, over which it is averaged how far a policy has moved.
const RECENT: f64 = 8.0;

/// A call with what the update needs to know of it.
struct Item<'a> {
    turn: &'a Turn,
    advantage: f64,
    /// Of each token of the completion, where tokens are credited.
    of_tokens: Option<&'a [f64]>,
    /// Log-probabilities under the policy at the start, over the whole sequence.
    reference: Vec<f32>,
}

/// Trains the policy in `trainer` on these episodes; `metrics.jsonl` and its drawing go to `directory`.
///
/// # Errors
/// [`Error::Unhealthy`] where nothing can be learned (no group with variance) or must not be (the trainer is not the sampler's model,
/// gradients are not finite); the trainer is then not to be used.
pub fn run(trainer: &mut Trainer, rollouts: &[Rollout], config: &PolicyConfig, directory: &Path) -> Result<Report> {
    config.check()?;
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    trainer.set_optimizer_config(config.optimizer());
    trainer.set_device(config.device)?;
    trainer.set_precision(config.precision);
    trainer.set_recompute(config.recompute);
    let start = Instant::now();
    let credited = assign(rollouts, config)?;
    let mut report = summary(rollouts, &credited);
    let mut items = items(rollouts, &credited, config, &mut report)?;
    if items.is_empty() {
        let Report { groups, flat_groups, sure, .. } = report;
        let sure = if sure > 0 { format!(", {sure} calls have less doubt than `least_doubt`") } else { String::new() };
        return Err(Error::Unhealthy(format!(
            "{flat_groups} of {groups} groups earned the same in all episodes{sure}, and no call is left to learn from; collect more episodes, \
             at a higher temperature, or on tasks that succeed sometimes"
        )));
    }
    score_start(trainer, &mut items, &group_rewards(rollouts, &credited, config), config, &mut report)?;
    let mut rng = StdRng::seed_from_u64(config.seed);
    let mut order = alike(&items);
    let steps = (batches(&order, config.tokens_per_batch).len() * config.epochs) as u64;
    let mut recent = Average::default();
    let mut progress = Progress::new(directory, steps)?;
    for _ in 0..config.epochs {
        order.shuffle(&mut rng);
        for batch in batches(&order, config.tokens_per_batch) {
            let lr = rate(config, report.steps, steps);
            let status = step(trainer, &batch, config, lr, &mut report, &mut recent, start)?;
            progress.step(&status)?;
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    progress.finish()?;
    Ok(report)
}

fn summary(rollouts: &[Rollout], credited: &Credited) -> Report {
    // What is replayed are successes by choice: they say nothing of how the policy does.
    let played = || rollouts.iter().filter(|rollout| !rollout.replayed);
    let n = played().count().max(1) as f64;
    Report {
        episodes: played().count(),
        groups: credited.groups,
        flat_groups: credited.flat_groups,
        reward: played().map(Rollout::total).sum::<f64>() / n,
        success: played().filter(|rollout| rollout.success).count() as f64 / n,
        mean_shaping: credited.mean_shaping,
        cluster_sizes: credited.cluster_sizes.clone(),
        ..Report::default()
    }
}

fn items<'a>(rollouts: &'a [Rollout], credited: &'a Credited, config: &PolicyConfig, report: &mut Report) -> Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for (index, (rollout, advantages)) in rollouts.iter().zip(&credited.advantages).enumerate() {
        for (place, (turn, advantage)) in rollout.turns.iter().zip(advantages.iter().flatten()).enumerate() {
            let of_tokens = credited.of_tokens.get(index).and_then(|calls| calls.get(place)).map(Vec::as_slice);
            turn.check(index)?;
            if turn.trained_tokens() == 0 {
                continue;
            }
            if turn.tokens() > config.max_tokens {
                report.too_long += 1;
            } else if config.actor != ActorKind::Likelihood && turn.doubt() < config.least_doubt {
                report.sure += 1;
            } else if *advantage != 0.0 {
                items.push(Item { turn, advantage: *advantage, of_tokens, reference: Vec::new() });
            }
        }
    }
    report.calls = items.len();
    report.trained_tokens = items.iter().map(|item| item.turn.trained_tokens()).sum();
    report.mean_advantage = items.iter().map(|item| item.advantage.abs()).sum::<f64>() / items.len().max(1) as f64;
    Ok(items)
}

/// Scores every call before the first step, and stops an update that is not healthy: a trainer that is not the model that sampled, a policy
/// that has collapsed, groups that say nothing.
fn score_start(trainer: &mut Trainer, items: &mut [Item], groups: &[Vec<f32>], config: &PolicyConfig, report: &mut Report) -> Result<()> {
    let sequences: Vec<Sequence> = items.iter().map(|item| item.turn.sequence()).collect();
    let scores = trainer.score(&sequences)?;
    let of = |value: fn(&Scored) -> f32| scores.iter().map(|list| list.iter().map(value).collect()).collect::<Vec<Vec<f32>>>();
    let (logprobs, entropies) = (of(|score| score.logprob), of(|score| score.entropy));
    for (item, logprobs) in items.iter_mut().zip(logprobs) {
        item.reference = logprobs;
    }
    let samples = items.iter().map(|item| sample(item, item.reference.clone(), config)).collect::<Result<Vec<_>>>()?;
    let trained = |of: &dyn Fn(usize, usize) -> f64| {
        let places = samples.iter().enumerate().flat_map(|(i, s)| (0..s.mask.len()).filter(|t| s.mask[*t]).map(move |t| (i, t)));
        places.map(|(i, t)| of(i, t)).collect::<Vec<f64>>()
    };
    let differences = trained(&|i, t| f64::from((samples[i].logprobs[t] - samples[i].old_logprobs[t]).abs()));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    report.sampler_difference = mean(&differences);
    report.sampler_difference_max = differences.iter().copied().fold(0.0, f64::max);
    report.entropy = mean(&trained(&|i, t| f64::from(entropies[i][t])));
    let update = PolicyUpdate {
        samples: &samples,
        group_rewards: groups,
        sampler_logprobs: None,
        reference_logprobs: None,
        entropies: Some(&entropies),
        grad_norm: None,
    };
    let diagnosis = diagnose_update(&config.doctor, &config.loss, &update)?;
    report.doctor = diagnosis.findings.iter().map(ToString::to_string).collect();
    if diagnosis.healthy() {
        return Ok(());
    }
    let failures: Vec<String> = diagnosis.of(Level::Failure).map(ToString::to_string).collect();
    let foreign = diagnosis.of(Level::Failure).any(|finding| finding.name == "sampler_difference");
    let hint = if foreign { "; another generation made the episodes, or the engine computes in other numbers" } else { "" };
    Err(Error::Unhealthy(format!("{}{hint}", failures.join("; "))))
}

/// The rewards of every group, as the doctor looks at them; MiRA and PPO compare all episodes with their critics, and with each other through
/// them, and REINFORCE++ compares all with all. Where steps are compared, a group whose episodes earned the same may differ in its steps: their
/// advantages stand for it.
fn group_rewards(rollouts: &[Rollout], credited: &Credited, config: &PolicyConfig) -> Vec<Vec<f32>> {
    let all = match config.credit {
        CreditKind::Mira | CreditKind::Ppo => true,
        CreditKind::Episode => !config.advantage.estimator.within_groups(),
        CreditKind::Step | CreditKind::Tree | CreditKind::Success => false,
    };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rollout) in rollouts.iter().enumerate().filter(|(_, rollout)| !rollout.turns.is_empty()) {
        groups.entry(if all { "all" } else { &rollout.group }).or_default().push(index);
    }
    let rewards = |members: Vec<usize>| -> Vec<f32> {
        let totals: Vec<f64> = members.iter().map(|i| rollouts[*i].total()).collect();
        let steps: Vec<f64> = members.iter().flat_map(|i| credited.advantages[*i].iter().flatten().copied()).collect();
        let compared = if config.credit == CreditKind::Step && flat(&totals) && !steps.is_empty() { steps } else { totals };
        compared.into_iter().map(|value| value as f32).collect()
    };
    groups.into_values().map(rewards).collect()
}

/// Calls whose prompts begin alike, such as those of one group in one state: together in a batch, they are computed against one copy of their
/// beginning. Few enough of them that a batch still holds many states.
fn alike<'a>(items: &'a [Item<'a>]) -> Vec<Vec<&'a Item<'a>>> {
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by(|a, b| a.turn.prompt.cmp(&b.turn.prompt));
    let mut bundles: Vec<Vec<&Item>> = Vec::new();
    for item in sorted {
        let goes_on = |bundle: &&mut Vec<&Item>| {
            let (first, prompt) = (&bundle[0].turn.prompt, &item.turn.prompt);
            let shared = first.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            bundle.len() < BUNDLE && 2 * shared > prompt.len()
        };
        match bundles.last_mut().filter(goes_on) {
            Some(bundle) => bundle.push(item),
            None => bundles.push(vec![item]),
        }
    }
    bundles
}

/// Puts bundles together into batches of at most so many tokens, at least one bundle each.
fn batches<'a>(bundles: &[Vec<&'a Item<'a>>], tokens: usize) -> Vec<Vec<&'a Item<'a>>> {
    let (mut batches, mut held): (Vec<Vec<&Item>>, usize) = (Vec::new(), usize::MAX);
    for bundle in bundles {
        let n = bundle.iter().map(|item| item.turn.tokens()).sum::<usize>();
        match batches.last_mut() {
            Some(batch) if held.saturating_add(n) <= tokens => {
                batch.extend(bundle);
                held += n;
            }
            _ => {
                batches.push(bundle.clone());
                held = n;
            }
        }
    }
    batches
}

/// The learning rate of the step after `done` of so many.
fn rate(config: &PolicyConfig, done: u64, steps: u64) -> f32 {
    let warmup = config.warmup_steps.min(steps / 10);
    let warm = (done + 1) as f64 / (warmup + 1) as f64;
    (config.lr * warm.min(1.0) * config.schedule.factor(done as f64 / steps.max(1) as f64)) as f32
}

fn step(
    trainer: &mut Trainer,
    batch: &[&Item],
    config: &PolicyConfig,
    lr: f32,
    report: &mut Report,
    recent: &mut Average,
    start: Instant,
) -> Result<Status> {
    let clock = Instant::now();
    let mut sequences: Vec<Sequence> = batch.iter().map(|item| item.turn.sequence()).collect();
    let scores = trainer.logprobs(&sequences)?;
    let samples = batch.iter().zip(scores).map(|(item, scores)| sample(item, scores, config)).collect::<Result<Vec<_>>>()?;
    let reference: Vec<Vec<f32>> = batch.iter().map(|item| item.reference.clone()).collect();
    let loss = loss(batch, &samples, &reference, config)?;
    for (sequence, weights) in sequences.iter_mut().zip(loss.head_weights()) {
        if config.entropy > 0.0 {
            // Under the loss's own normalisation by trained tokens.
            let count = samples.iter().flat_map(|s| &s.mask).filter(|trained| **trained).count().max(1);
            let bonus = (config.entropy / count as f64) as f32;
            sequence.entropy_weights = sequence.weights.iter().map(|weight| if *weight > 0.0 { bonus } else { 0.0 }).collect();
        }
        sequence.weights = weights;
    }
    let metrics = trainer.forward_backward(&Batch { sequences })?;
    let taken = trainer.optim_step_of_sum(lr);
    report.steps += 1;
    report.tokens += metrics.tokens as u64;
    report.skipped += u64::from(taken == Step::Skipped);
    if report.skipped > 3 {
        return Err(Error::Unhealthy(format!("{} of {} gradients were not finite; lower `lr`", report.skipped, report.steps)));
    }
    if report.steps == 1 {
        report.first_loss = loss.value;
    }
    report.last_loss = loss.value;
    report.kl = mean_kl(&samples, &reference)?;
    // A batch holds few states, and one of them may have moved far: the latest batches together say where the policy is.
    recent.push(moved(&samples, &reference)?, RECENT);
    report.moved = recent.value;
    if report.moved.is_nan() || report.moved > config.most_moved {
        return Err(Error::Unhealthy(format!(
            "the policy ran away: at step {} it has moved {:.3} of its probability on what it said before (at most {} is allowed); lower `lr` or `epochs`",
            report.steps, report.moved, config.most_moved
        )));
    }
    let clipped = if config.actor == ActorKind::Ratio { clip_fraction(&config.loss, &samples)? } else { 0.0 };
    report.clip_fraction = report.clip_fraction.max(clipped);
    Ok(Status {
        step: report.steps,
        seconds: start.elapsed().as_secs_f64(),
        tokens: report.tokens,
        loss: loss.value,
        reward: report.reward,
        kl: report.kl,
        moved: report.moved,
        clip_fraction: clipped,
        grad_norm: match taken {
            Step::Applied { grad_norm } => Some(grad_norm),
            Step::Skipped => None,
        },
        lr,
        tokens_per_second: metrics.tokens as f64 / clock.elapsed().as_secs_f64(),
    })
}

fn sample(item: &Item, logprobs: Vec<f32>, config: &PolicyConfig) -> Result<Sample> {
    let turn = item.turn;
    let mask = turn.padded(&turn.trained, false);
    let old_logprobs = match config.actor {
        ActorKind::Likelihood => logprobs.clone(),
        ActorKind::Ratio | ActorKind::Squares => turn.padded(&turn.old_logprobs, 0.0),
    };
    let weights = match config.actor {
        // Nobody sampled what is imitated: there is nothing to correct.
        ActorKind::Likelihood => mask.iter().map(|trained| f32::from(u8::from(*trained))).collect(),
        ActorKind::Ratio | ActorKind::Squares => correction(&config.correction, &mask, &item.reference, &old_logprobs)?,
    };
    let advantages = match item.of_tokens {
        Some(of_tokens) => turn.padded(of_tokens, 0.0).into_iter().map(|advantage| advantage as f32).collect(),
        None => vec![item.advantage as f32; mask.len()],
    };
    Ok(Sample { mask, logprobs, old_logprobs, advantages, weights })
}

fn loss(batch: &[&Item], samples: &[Sample], reference: &[Vec<f32>], config: &PolicyConfig) -> Result<Loss> {
    match config.actor {
        ActorKind::Ratio if config.loss.kl_weight > 0.0 => {
            policy_loss(&config.loss, samples)?.plus(&kl_loss(&config.loss, samples, reference)?)
        }
        ActorKind::Ratio => policy_loss(&config.loss, samples),
        // At a ratio of 1 the ratio's gradient is the likelihood's, and nothing is clipped.
        ActorKind::Likelihood => {
            let nats = |s: &Sample| s.mask.iter().zip(&s.logprobs).filter(|(t, _)| **t).map(|(_, p)| -f64::from(*p)).collect::<Vec<_>>();
            let nats: Vec<f64> = samples.iter().flat_map(nats).collect();
            let loss = policy_loss(&config.loss, samples)?;
            Ok(Loss { value: nats.iter().sum::<f64>() / nats.len().max(1) as f64, ..loss })
        }
        ActorKind::Squares => {
            let action = |((item, sample), reference): ((&&Item, &Sample), &Vec<f32>)| Action {
                mask: sample.mask.clone(),
                logprobs: sample.logprobs.clone(),
                reference_logprobs: reference.clone(),
                advantage: item.advantage,
            };
            mira_loss(&config.squares, &batch.iter().zip(samples).zip(reference).map(action).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;

    #[test]
    fn the_rate_rises_and_falls_as_it_is_told() {
        let config = PolicyConfig { lr: 1.0, warmup_steps: 3, ..Default::default() };
        let rates = |config: &PolicyConfig| [0, 3, 50, 99].map(|done| rate(config, done, 100));
        assert_eq!(rates(&config), [0.25, 1.0, 1.0, 1.0]);
        // A short update does not spend itself on its warm-up.
        assert_eq!(rate(&config, 1, 12), 1.0);
        let falls = rates(&PolicyConfig { schedule: Schedule::Linear, ..config });
        for (got, want) in falls.iter().zip([0.25, 0.970_3, 0.505, 0.019_9]) {
            assert!((got - want).abs() < 1e-4, "{falls:?}");
        }
    }
}
