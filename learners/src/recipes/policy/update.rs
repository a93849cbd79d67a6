//! One update of the policy: assigns credit, scores the calls, and takes optimiser steps over mini-batches of them.

mod batching;
mod health;
mod step;
mod trained_call;

use std::path::Path;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::config::{ActorKind, PolicyConfig};
use super::credit::{CreditAssignment, assign_credit};
use super::report::{Progress, Report};
use super::rollout::Rollout;
use crate::{Error, Result, Trainer};
use batching::{batches, bundle_by_prefix};
use health::{group_rewards, score_and_diagnose};
use step::Stepper;
use trained_call::TrainedCall;

/// Trains the policy in `trainer` on these episodes; `metrics.jsonl` and its plot are written to `directory`.
///
/// # Errors
/// [`Error::Unhealthy`] if nothing can be learned (no group has variance), if the trainer's model is not the one that sampled, if gradients
/// are not finite, or if the policy moves too far; the trainer must not be used afterwards.
pub fn run(trainer: &mut Trainer, rollouts: &[Rollout], config: &PolicyConfig, directory: &Path) -> Result<Report> {
    config.check()?;
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    trainer.set_optimizer_config(config.optimizer());
    trainer.set_device(config.device)?;
    trainer.set_precision(config.precision);
    trainer.set_recompute(config.recompute);
    let start = Instant::now();
    let credit = assign_credit(rollouts, config)?;
    let mut report = summary(rollouts, &credit);
    let mut calls = select_calls(rollouts, &credit, config, &mut report)?;
    if calls.is_empty() {
        return Err(nothing_to_learn(&report));
    }
    score_and_diagnose(trainer, &mut calls, &group_rewards(rollouts, &credit, config), config, &mut report)?;
    let mut rng = StdRng::seed_from_u64(config.seed);
    let mut bundles = bundle_by_prefix(&calls);
    let steps = (batches(&bundles, config.tokens_per_batch).len() * config.epochs) as u64;
    let mut stepper = Stepper::new(config, steps, start);
    let mut progress = Progress::new(directory, steps)?;
    for _ in 0..config.epochs {
        bundles.shuffle(&mut rng);
        for batch in batches(&bundles, config.tokens_per_batch) {
            let status = stepper.step(trainer, &batch, &mut report)?;
            progress.step(&status)?;
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    progress.finish()?;
    Ok(report)
}

/// Starts the report with the figures of the rollouts.
fn summary(rollouts: &[Rollout], credit: &CreditAssignment) -> Report {
    // Replayed rollouts are selected successes, and would distort the policy's figures.
    let played = || rollouts.iter().filter(|rollout| !rollout.replayed);
    let n = played().count().max(1) as f64;
    Report {
        episodes: played().count(),
        groups: credit.groups,
        flat_groups: credit.flat_groups,
        reward: played().map(Rollout::total).sum::<f64>() / n,
        success: played().filter(|rollout| rollout.success).count() as f64 / n,
        mean_shaping: credit.mean_shaping,
        cluster_sizes: credit.cluster_sizes.clone(),
        ..Report::default()
    }
}

/// Selects the calls that are trained on, and counts in the report those that are left out.
fn select_calls<'a>(
    rollouts: &'a [Rollout],
    credit: &'a CreditAssignment,
    config: &PolicyConfig,
    report: &mut Report,
) -> Result<Vec<TrainedCall<'a>>> {
    let mut selected = Vec::new();
    for (index, (rollout, advantages)) in rollouts.iter().zip(&credit.advantages).enumerate() {
        for (place, (call, advantage)) in rollout.calls.iter().zip(advantages.iter().flatten()).enumerate() {
            let token_advantages = credit.token_advantages.get(index).and_then(|calls| calls.get(place)).map(Vec::as_slice);
            call.check(index)?;
            if call.trained_tokens() == 0 {
                continue;
            }
            if call.tokens() > config.max_tokens {
                report.too_long += 1;
            } else if config.actor != ActorKind::Likelihood && call.doubt() < config.least_doubt {
                report.sure += 1;
            } else if *advantage != 0.0 {
                selected.push(TrainedCall { call, advantage: *advantage, token_advantages, reference: Vec::new() });
            }
        }
    }
    report.calls = selected.len();
    report.trained_tokens = selected.iter().map(|selected| selected.call.trained_tokens()).sum();
    report.mean_advantage = selected.iter().map(|selected| selected.advantage.abs()).sum::<f64>() / selected.len().max(1) as f64;
    Ok(selected)
}

/// Builds the error of an update without any call to train on.
fn nothing_to_learn(report: &Report) -> Error {
    let Report { groups, flat_groups, sure, .. } = report;
    let sure = if *sure > 0 { format!(", {sure} calls have less doubt than `least_doubt`") } else { String::new() };
    Error::Unhealthy(format!(
        "{flat_groups} of {groups} groups earned the same in all episodes{sure}, and no call is left to learn from; collect more episodes, \
         at a higher temperature, or on tasks that succeed sometimes"
    ))
}
