//! Supervised fine-tuning with a curriculum: examples that get harder as they are mastered, on a budget of steps or minutes.

mod config;
mod feed;
mod progress;
mod resume;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use config::{Budget, OptimizerKind, SftConfig};
pub use feed::{Example, ExampleSource, weigh};

use crate::optim::Step;
use crate::statistics::Average;
use crate::{Error, Metrics, Result, Trainer};
use feed::{Feed, Work};
use progress::Progress;

/// Where a run stands; one line of `metrics.jsonl` after every step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Steps of the optimiser, skipped ones included.
    pub step: u64,
    /// Seconds of training, those before a resume included.
    pub seconds: f64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Predictions that were trained.
    pub trained_tokens: u64,
    /// Examples that were trained.
    pub examples: u64,
    /// The latest step's loss.
    pub loss: f64,
    /// The latest step's fraction of examples whose whole completion was the likeliest.
    pub exact: f64,
    /// The moving average of `exact` at this difficulty.
    pub exact_average: Average,
    /// The moving average of `exact` of every tag.
    pub exact_by_tag: BTreeMap<String, Average>,
    /// The difficulty that examples are made at, 0 to 1.
    pub difficulty: f32,
    /// The latest step's learning rate.
    pub lr: f32,
    /// The latest step's gradient norm; `None` if the step was skipped.
    pub grad_norm: Option<f32>,
    /// Tokens a second over the latest step.
    pub tokens_per_second: f64,
    /// Steps skipped for a gradient that was not finite.
    pub skipped: u64,
}

/// Trains until the budget is spent, writing `metrics.jsonl`, checkpoints and the final model into `directory`.
///
/// With `config.resume` and a checkpoint in `directory`, training goes on from there; the model in `trainer` is replaced.
pub fn run(trainer: &mut Trainer, source: Box<dyn ExampleSource>, config: &SftConfig, directory: &Path) -> Result<Status> {
    config.check()?;
    std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let begun = if config.resume { resume::load(trainer, directory)? } else { None };
    let (mut status, position) = match begun {
        Some((status, position)) => (status, Some(position)),
        None => (Status { difficulty: config.curriculum_start, ..Status::default() }, None),
    };
    trainer.set_optimizer_config(config.optimizer());
    trainer.set_device(config.device)?;
    trainer.set_precision(config.precision);
    trainer.set_recompute(config.recompute);
    let mut feed = Feed::start(source, config, &status, position);
    let mut progress = Progress::new(config, directory, &status)?;
    let (start, before) = (Instant::now(), status.seconds);
    let difficulty = Curriculum::new(config);
    while config.budget().done(&status) < 1.0 && config.stop_after.is_none_or(|steps| status.step < steps) {
        let Some(work) = feed.next() else {
            return Err(Error::Unhealthy("the source of examples ended".into()));
        };
        let step_start = Instant::now();
        let metrics = trainer.forward_backward(&work.batch)?;
        status.lr = config.learning_rate(&status);
        let step = trainer.optim_step(status.lr);
        status.seconds = before + start.elapsed().as_secs_f64();
        status.tokens_per_second = metrics.tokens as f64 / step_start.elapsed().as_secs_f64();
        account(&mut status, &metrics, &work, step)?;
        difficulty.update(&mut status, &metrics, &work);
        feed.order(status.difficulty);
        progress.step(&status)?;
        if config.checkpoint_every > 0 && status.step.is_multiple_of(config.checkpoint_every) {
            resume::save(trainer, &status, feed.position(), directory)?;
        }
    }
    resume::save(trainer, &status, feed.position(), directory)?;
    progress.finish(&status)?;
    Ok(status)
}

/// Takes one step's findings into the status.
fn account(status: &mut Status, metrics: &Metrics, work: &Work, step: Step) -> Result<()> {
    status.step += 1;
    status.tokens += metrics.tokens as u64;
    status.trained_tokens += metrics.trained_tokens as u64;
    status.examples += work.tags.len() as u64;
    (status.loss, status.exact) = (metrics.loss, metrics.exact);
    status.grad_norm = match step {
        Step::Applied { grad_norm } => Some(grad_norm),
        Step::Skipped => None,
    };
    status.skipped += u64::from(step == Step::Skipped);
    for (tag, exact) in work.tags.iter().zip(&metrics.exact_sequences) {
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

/// The rule by which examples get harder: up by a step once the average passes a threshold, never down.
struct Curriculum {
    threshold: f64,
    step: f32,
    memory: f64,
}

impl Curriculum {
    /// Batches at a difficulty that must have been seen before it can be passed.
    const PATIENCE: u64 = 3;

    fn new(config: &SftConfig) -> Self {
        Self { threshold: config.curriculum_threshold, step: config.curriculum_step, memory: config.curriculum_memory }
    }

    /// Only batches made at the present difficulty count: some from before are still on their way when it moves.
    fn update(&self, status: &mut Status, metrics: &Metrics, work: &Work) {
        if work.difficulty != status.difficulty || metrics.exact.is_nan() {
            return;
        }
        status.exact_average.push(metrics.exact, self.memory);
        let passed = status.exact_average.value >= self.threshold && status.exact_average.count >= Self::PATIENCE;
        if passed && status.difficulty < 1.0 {
            status.difficulty = (status.difficulty + self.step).min(1.0);
            status.exact_average = Average::default();
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
            let work = Work { difficulty: status.difficulty, ..Default::default() };
            curriculum.update(&mut status, &metrics, &work);
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
        curriculum.update(&mut status, &metrics, &Work { difficulty: 0.4, ..Default::default() });
        assert_eq!(status.exact_average, Average::default());
    }
}
