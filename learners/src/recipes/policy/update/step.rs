//! One optimiser step of an update, and its loss.

use std::time::Instant;

use super::trained_call::TrainedCall;
use crate::losses::{Action, Loss, Sample, clip_fraction, kl_loss, mean_kl, mira_loss, policy_loss, total_variation};
use crate::optim::Step;
use crate::recipes::MovingAverage;
use crate::recipes::policy::config::{ActorKind, PolicyConfig};
use crate::recipes::policy::report::{Report, Status};
use crate::{Batch, Error, Result, Sequence, Trainer};

/// The number of batches over which the total variation is averaged. A batch holds few states, and one of them may have moved far; the
/// latest batches together show how far the policy has moved.
const MOVED_MEMORY: f64 = 8.0;

/// The maximum number of steps that may be skipped because their gradient is not finite.
const MAX_SKIPPED: u64 = 3;

/// Takes the steps of one update.
pub(super) struct Stepper<'a> {
    config: &'a PolicyConfig,
    /// The number of steps of the whole update.
    steps: u64,
    /// The share of probability that the policy has moved, over the latest batches.
    moved: MovingAverage,
    /// When the update began.
    start: Instant,
}

impl<'a> Stepper<'a> {
    /// Creates a stepper for an update of this number of steps.
    pub fn new(config: &'a PolicyConfig, steps: u64, start: Instant) -> Self {
        Self { config, steps, moved: MovingAverage::default(), start }
    }

    /// Takes one step on a batch and updates the report.
    ///
    /// # Errors
    /// Too many gradients are not finite, or the policy has moved too far.
    pub fn step(&mut self, trainer: &mut Trainer, batch: &[&TrainedCall], report: &mut Report) -> Result<Status> {
        let clock = Instant::now();
        let config = self.config;
        let lr = learning_rate(config, report.steps, self.steps);
        let mut sequences: Vec<Sequence> = batch.iter().map(|call| call.call.sequence()).collect();
        let scores = trainer.logprobs(&sequences)?;
        let samples = batch.iter().zip(scores).map(|(call, scores)| call.sample(scores, config)).collect::<Result<Vec<_>>>()?;
        let reference: Vec<Vec<f32>> = batch.iter().map(|call| call.reference.clone()).collect();
        let loss = loss(batch, &samples, &reference, config)?;
        set_weights(&mut sequences, &samples, &loss, config.entropy);
        let metrics = trainer.forward_backward(&Batch { sequences })?;
        let taken = trainer.optim_step_of_sum(lr);
        report.tokens += metrics.tokens as u64;
        record_step(report, taken, loss.value)?;
        report.kl = mean_kl(&samples, &reference)?;
        self.moved.push(total_variation(&samples, &reference)?, MOVED_MEMORY);
        report.moved = self.moved.value;
        check_moved(report, config)?;
        let clipped = if config.actor == ActorKind::Ratio { clip_fraction(&config.loss, &samples)? } else { 0.0 };
        report.clip_fraction = report.clip_fraction.max(clipped);
        Ok(Status {
            step: report.steps,
            seconds: self.start.elapsed().as_secs_f64(),
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
}

/// Computes the learning rate of the step after `done` of `steps` steps.
fn learning_rate(config: &PolicyConfig, done: u64, steps: u64) -> f32 {
    let warmup_steps = config.warmup_steps.min(steps / 10);
    let warmup = (done + 1) as f64 / (warmup_steps + 1) as f64;
    (config.lr * warmup.min(1.0) * config.schedule.factor(done as f64 / steps.max(1) as f64)) as f32
}

/// Sets the weights of the sequences in the trainer's head: those of the loss, and those of the entropy bonus.
fn set_weights(sequences: &mut [Sequence], samples: &[Sample], loss: &Loss, entropy: f64) {
    // The entropy bonus is normalised by the number of trained tokens.
    let count = samples.iter().flat_map(|sample| &sample.mask).filter(|trained| **trained).count().max(1);
    let bonus = (entropy / count as f64) as f32;
    for (sequence, weights) in sequences.iter_mut().zip(loss.head_weights()) {
        if entropy > 0.0 {
            sequence.entropy_weights = sequence.weights.iter().map(|weight| if *weight > 0.0 { bonus } else { 0.0 }).collect();
        }
        sequence.weights = weights;
    }
}

/// Counts a step in the report.
fn record_step(report: &mut Report, taken: Step, loss: f64) -> Result<()> {
    report.steps += 1;
    report.skipped += u64::from(taken == Step::Skipped);
    if report.skipped > MAX_SKIPPED {
        return Err(Error::Unhealthy(format!("{} of {} gradients were not finite; lower `lr`", report.skipped, report.steps)));
    }
    if report.steps == 1 {
        report.first_loss = loss;
    }
    report.last_loss = loss;
    Ok(())
}

/// Refuses to continue with a policy that has moved further than `most_moved` allows.
fn check_moved(report: &Report, config: &PolicyConfig) -> Result<()> {
    if report.moved.is_nan() || report.moved > config.most_moved {
        return Err(Error::Unhealthy(format!(
            "the policy ran away: at step {} it has moved {:.3} of its probability on what it said before (at most {} is allowed); lower `lr` or `epochs`",
            report.steps, report.moved, config.most_moved
        )));
    }
    Ok(())
}

/// Computes the configured loss of a batch.
fn loss(batch: &[&TrainedCall], samples: &[Sample], reference: &[Vec<f32>], config: &PolicyConfig) -> Result<Loss> {
    match config.actor {
        ActorKind::Ratio if config.loss.kl_weight > 0.0 => {
            policy_loss(&config.loss, samples)?.plus(&kl_loss(&config.loss, samples, reference)?)
        }
        ActorKind::Ratio => policy_loss(&config.loss, samples),
        // At a ratio of 1 the ratio has the gradient of the log-likelihood, and nothing is clipped.
        ActorKind::Likelihood => {
            let nats = |s: &Sample| s.mask.iter().zip(&s.logprobs).filter(|(t, _)| **t).map(|(_, p)| -f64::from(*p)).collect::<Vec<_>>();
            let nats: Vec<f64> = samples.iter().flat_map(nats).collect();
            let loss = policy_loss(&config.loss, samples)?;
            Ok(Loss { value: nats.iter().sum::<f64>() / nats.len().max(1) as f64, ..loss })
        }
        ActorKind::Squares => {
            let action = |((call, sample), reference): ((&&TrainedCall, &Sample), &Vec<f32>)| Action {
                mask: sample.mask.clone(),
                logprobs: sample.logprobs.clone(),
                reference_logprobs: reference.clone(),
                advantage: call.advantage,
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
    fn the_learning_rate_follows_the_warm_up_and_the_schedule() {
        let config = PolicyConfig { lr: 1.0, warmup_steps: 3, ..Default::default() };
        let rates = |config: &PolicyConfig| [0, 3, 50, 99].map(|done| learning_rate(config, done, 100));
        assert_eq!(rates(&config), [0.25, 1.0, 1.0, 1.0]);
        // In a short update the warm-up is shortened to a tenth of its steps.
        assert_eq!(learning_rate(&config, 1, 12), 1.0);
        let falls = rates(&PolicyConfig { schedule: Schedule::Linear, ..config });
        for (got, want) in falls.iter().zip([0.25, 0.970_3, 0.505, 0.019_9]) {
            assert!((got - want).abs() < 1e-4, "{falls:?}");
        }
    }
}
