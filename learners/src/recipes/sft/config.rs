//! The configuration of a supervised run.

use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::adapter::LoraConfig;
use crate::model::Storage;
use crate::ops::matmul::Precision;
use crate::optim::{AdamWConfig, Schedule};
use crate::{DeviceKind, Error, Result};

/// The settings of a supervised run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// The schedule of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// The number of steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// The average weight of a prompt token in the loss; a completion token has weight 1.
    pub prompt_weight: f32,
    /// The fraction of the prompt tokens that are trained, each with weight `prompt_weight / prompt_share`.
    ///
    /// The expected gradient does not depend on this fraction; a small one lets the last layer and the head skip the other tokens.
    pub prompt_share: f32,
    /// Each token of a completion of `n < 64` tokens has weight `(64 / n)^short_boost`: 0 weights all tokens equally, 1 all completions.
    pub short_boost: f32,
    /// The maximum number of prompt and completion tokens in one step.
    pub tokens_per_batch: usize,
    /// The duration of the run in minutes; the schedule follows the clock, so that the learning rate has decayed when the time is over.
    pub minutes: Option<f64>,
    /// The number of steps of the run if `minutes` is not given.
    pub total_steps: u64,
    /// The number of steps after which the run stops as if it had been interrupted; `--resume` continues it.
    pub stop_after: Option<u64>,
    /// Seed for the choice of the trained prompt tokens.
    pub seed: u64,
    /// The number of steps between checkpoints; 0 writes only the last one.
    pub checkpoint_every: u64,
    /// The number of steps between log lines if no progress bar can be shown.
    pub log_every: u64,
    /// Whether to continue from the checkpoint in the output directory, if there is one.
    pub resume: bool,
    /// The shape of the adapter to train next to the frozen model; `None` trains the model itself.
    pub lora: Option<LoraConfig>,
    /// The number format of the frozen model's linear weights; only with `lora`.
    pub base: Storage,
    /// Whether only layer inputs are kept and the other activations are recomputed in the backward pass.
    pub recompute: bool,
    /// The optimiser of the layers' matrices.
    pub optimizer: OptimizerKind,
    /// The maximum gradient norm; larger gradients are scaled down to it.
    pub clip: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The device on which the model is trained.
    pub device: DeviceKind,
    /// The number format of matrix products.
    pub precision: Precision,
    /// Decay of Adam's first moment.
    pub beta1: f32,
    /// Decay of Adam's second moment.
    pub beta2: f32,
    /// The average exact match at which the difficulty rises.
    pub curriculum_threshold: f64,
    /// The amount by which the difficulty rises.
    pub curriculum_step: f32,
    /// The difficulty at the beginning of a run.
    pub curriculum_start: f32,
    /// The number of batches over which the exact match is averaged.
    pub curriculum_memory: f64,
    /// The maximum number of tokens of an example; longer ones are left out.
    pub max_tokens: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            lr: 2e-3,
            schedule: Schedule::default(),
            warmup_steps: 50,
            prompt_weight: 0.01,
            prompt_share: 0.05,
            short_boost: 0.0,
            tokens_per_batch: 16_384,
            minutes: None,
            total_steps: 1000,
            stop_after: None,
            seed: 1,
            checkpoint_every: 200,
            log_every: 10,
            resume: false,
            lora: None,
            base: Storage::F32,
            recompute: false,
            optimizer: OptimizerKind::default(),
            clip: 1.0,
            weight_decay: 0.01,
            device: DeviceKind::default(),
            precision: Precision::default(),
            beta1: 0.9,
            beta2: 0.98,
            curriculum_threshold: 0.8,
            curriculum_step: 0.1,
            curriculum_start: 0.0,
            curriculum_memory: 10.0,
            max_tokens: 1024,
        }
    }
}

/// The available optimisers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// AdamW for everything.
    #[default]
    Adamw,
    /// Muon for the matrices of the layers, AdamW for embeddings and norms.
    Muon,
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// The run ends after this number of minutes.
    Minutes(f64),
    /// The run ends after this number of steps.
    Steps(u64),
}

impl Budget {
    /// Returns the fraction of the budget that is spent; it can exceed 1.
    pub fn fraction_spent(self, status: &Status) -> f64 {
        match self {
            Self::Minutes(minutes) => status.seconds / (minutes * 60.0),
            Self::Steps(steps) => status.step as f64 / steps as f64,
        }
    }
}

impl SftConfig {
    /// Returns the budget of the run.
    pub fn budget(&self) -> Budget {
        self.minutes.map_or(Budget::Steps(self.total_steps), Budget::Minutes)
    }

    /// Returns the settings of the optimiser.
    pub fn optimizer(&self) -> AdamWConfig {
        let Self { beta1, beta2, weight_decay, clip, .. } = *self;
        let muon = self.optimizer == OptimizerKind::Muon;
        AdamWConfig { beta1, beta2, weight_decay, clip, muon, ..Default::default() }
    }

    /// Computes the learning rate of the next step.
    pub fn learning_rate(&self, status: &Status) -> f32 {
        let warmup = ((status.step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        (self.lr * warmup * self.schedule.factor(self.budget().fraction_spent(status))) as f32
    }

    /// Refuses invalid values.
    ///
    /// # Errors
    /// A value is out of its range; the error names the key.
    pub fn check(&self) -> Result<()> {
        let rules = [
            ("lr", self.lr > 0.0 && self.lr.is_finite(), "must be above 0"),
            ("prompt_weight", (0.0..1.0).contains(&self.prompt_weight), "must be at least 0 and below 1"),
            ("prompt_share", self.prompt_share > 0.0 && self.prompt_share <= 1.0, "must be above 0 and at most 1"),
            (
                "prompt_share",
                self.prompt_weight < self.prompt_share,
                "must be above prompt_weight, or prompt tokens would weigh more than completions",
            ),
            ("short_boost", (0.0..=1.0).contains(&self.short_boost), "must be from 0 to 1"),
            ("tokens_per_batch", self.tokens_per_batch > 0, "must be above 0"),
            ("minutes", self.minutes.is_none_or(|m| m > 0.0), "must be above 0"),
            ("total_steps", self.total_steps > 0, "must be above 0"),
            ("log_every", self.log_every > 0, "must be above 0"),
            (
                "base",
                self.base == Storage::F32 || self.lora.is_some(),
                "must be f32 where no adapter is trained: only frozen weights can be small",
            ),
            ("curriculum_step", self.curriculum_step > 0.0, "must be above 0"),
            ("curriculum_memory", self.curriculum_memory >= 1.0, "must be at least 1"),
        ];
        for (key, holds, problem) in rules {
            if !holds {
                return Err(Error::Config { key, problem: problem.into() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_defaults_fill_the_rest() {
        assert!(serde_json::from_str::<SftConfig>(r#"{"learning_rate": 1.0}"#).is_err());
        let config: SftConfig = serde_json::from_str(r#"{"lr": 0.5, "minutes": 2}"#).unwrap();
        assert_eq!(config, SftConfig { lr: 0.5, minutes: Some(2.0), ..Default::default() });
        config.check().unwrap();
    }

    #[test]
    fn a_base_is_kept_small_only_beside_an_adapter() {
        let adapted: SftConfig = serde_json::from_str(r#"{"base": "q4_k", "lora": {"rank": 8}}"#).unwrap();
        assert_eq!(adapted.base, Storage::Q4K);
        adapted.check().unwrap();
        assert!(SftConfig { lora: None, ..adapted }.check().unwrap_err().to_string().contains("`base`"));
    }

    #[test]
    fn the_rate_warms_up_and_ends_low_on_the_clock() {
        let config = SftConfig { minutes: Some(1.0), warmup_steps: 4, lr: 1.0, ..Default::default() };
        let at = |step, seconds| config.learning_rate(&Status { step, seconds, ..Default::default() });
        assert_eq!(at(0, 0.0), 0.25);
        assert_eq!(at(3, 0.0), 1.0);
        assert!(at(900, 59.9) < 0.011);
    }
}
