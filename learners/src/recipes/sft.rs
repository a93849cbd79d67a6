//! Supervised fine-tuning with a curriculum: the examples get harder as the model learns them, within a budget of steps or minutes.

mod config;
mod feed;
mod progress;
mod resume;
mod status;

use std::path::Path;
use std::time::Instant;

pub use crate::example::Example;
pub use config::{Budget, OptimizerKind, SftConfig};
pub use feed::{ExampleSource, weighted_sequence};
pub use status::Status;

use super::MovingAverage;
use crate::optim::Step;
use crate::{Error, Metrics, Result, Trainer};
use feed::{BatchFeed, TrainingBatch};
use progress::Progress;

/// Trains until the budget is spent, writing `metrics.jsonl`, checkpoints and the final model into `directory`.
///
/// With `config.resume` and a checkpoint in `directory`, training continues from the checkpoint, which replaces the model in `trainer`.
///
/// # Errors
/// The configuration is invalid, a file cannot be read or written, the source yields no more examples, or most gradients are not finite.
pub fn run(trainer: &mut Trainer, source: Box<dyn ExampleSource>, config: &SftConfig, directory: &Path) -> Result<Status> {
    config.check()?;
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let checkpoint = if config.resume { resume::load(trainer, directory)? } else { None };
    let (mut status, position) = match checkpoint {
        Some((status, position)) => (status, Some(position)),
        None => (Status { difficulty: config.curriculum_start, ..Status::default() }, None),
    };
    trainer.set_optimizer_config(config.optimizer());
    trainer.set_device(config.device)?;
    trainer.set_precision(config.precision);
    trainer.set_recompute(config.recompute);
    let mut feed = BatchFeed::start(source, config, &status, position);
    let mut progress = Progress::new(config, directory, &status)?;
    let (start, before) = (Instant::now(), status.seconds);
    let curriculum = Curriculum::new(config);
    while config.budget().fraction_spent(&status) < 1.0 && config.stop_after.is_none_or(|steps| status.step < steps) {
        let Some(batch) = feed.next() else {
            return Err(Error::Unhealthy("the source of examples ended".into()));
        };
        let step_start = Instant::now();
        let metrics = trainer.forward_backward(&batch.batch)?;
        status.lr = config.learning_rate(&status);
        let step = trainer.optim_step(status.lr);
        status.seconds = before + start.elapsed().as_secs_f64();
        status.tokens_per_second = metrics.tokens as f64 / step_start.elapsed().as_secs_f64();
        record_step(&mut status, &metrics, &batch, step)?;
        curriculum.update(&mut status, &metrics, &batch);
        feed.request(status.difficulty);
        progress.step(&status)?;
        if config.checkpoint_every > 0 && status.step.is_multiple_of(config.checkpoint_every) {
            resume::save(trainer, &status, feed.position(), directory)?;
        }
    }
    resume::save(trainer, &status, feed.position(), directory)?;
    progress.finish(&status)?;
    Ok(status)
}

/// Updates the status with the results of one step.
fn record_step(status: &mut Status, metrics: &Metrics, batch: &TrainingBatch, step: Step) -> Result<()> {
    status.step += 1;
    status.tokens += metrics.tokens as u64;
    status.trained_tokens += metrics.trained_tokens as u64;
    status.examples += batch.tags.len() as u64;
    (status.loss, status.exact) = (metrics.loss, metrics.exact);
    status.grad_norm = match step {
        Step::Applied { grad_norm } => Some(grad_norm),
        Step::Skipped => None,
    };
    status.skipped += u64::from(step == Step::Skipped);
    for (tag, exact) in batch.tags.iter().zip(&metrics.exact_sequences) {
        if let Some(exact) = exact {
            let average = status.exact_by_tag.entry(tag.clone()).or_default();
            average.push(f64::from(u8::from(*exact)), 200.0);
        }
    }
    if status.skipped > 100 && status.skipped * 2 > status.step {
        return Err(Error::Unhealthy(format!("{} of {} gradients were not finite", status.skipped, status.step)));
    }
    Ok(())
}

/// The rule by which examples get harder: the difficulty rises by a step once the average passes a threshold, and never falls.
struct Curriculum {
    threshold: f64,
    step: f32,
    memory: f64,
}

impl Curriculum {
    /// The minimum number of batches at one difficulty before the difficulty can rise.
    const MIN_BATCHES: u64 = 3;

    fn new(config: &SftConfig) -> Self {
        Self { threshold: config.curriculum_threshold, step: config.curriculum_step, memory: config.curriculum_memory }
    }

    /// Updates the average and the difficulty. Only batches made at the current difficulty count: when the difficulty rises, some batches
    /// made at the previous one are still queued.
    fn update(&self, status: &mut Status, metrics: &Metrics, batch: &TrainingBatch) {
        if batch.difficulty != status.difficulty || metrics.exact.is_nan() {
            return;
        }
        status.exact_average.push(metrics.exact, self.memory);
        let passed = status.exact_average.value >= self.threshold && status.exact_average.count >= Self::MIN_BATCHES;
        if passed && status.difficulty < 1.0 {
            status.difficulty = (status.difficulty + self.step).min(1.0);
            status.exact_average = MovingAverage::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_curriculum(exact: &[f64], want: f32) {
        let curriculum = Curriculum::new(&SftConfig { curriculum_step: 0.5, ..Default::default() });
        let mut status = Status::default();
        for exact in exact {
            let metrics = Metrics { exact: *exact, ..Default::default() };
            let batch = TrainingBatch { difficulty: status.difficulty, ..Default::default() };
            curriculum.update(&mut status, &metrics, &batch);
        }
        assert_eq!(status.difficulty, want);
    }

    #[test]
    fn difficulty_rises_only_on_mastery_and_never_falls() {
        check_curriculum(&[0.5; 50], 0.0);
        check_curriculum(&[0.9; 2], 0.0);
        check_curriculum(&[0.9; 3], 0.5);
        check_curriculum(&[0.9; 60], 1.0);
        check_curriculum(&[&[0.9; 3][..], &[0.0; 20]].concat(), 0.5);
        check_curriculum(&[f64::NAN; 20], 0.0);
    }

    #[test]
    fn a_batch_of_an_earlier_difficulty_does_not_count() {
        let curriculum = Curriculum::new(&SftConfig::default());
        let mut status = Status { difficulty: 0.5, ..Default::default() };
        let metrics = Metrics { exact: 1.0, ..Default::default() };
        curriculum.update(&mut status, &metrics, &TrainingBatch { difficulty: 0.4, ..Default::default() });
        assert_eq!(status.exact_average, MovingAverage::default());
    }
}
