//! The state of a supervised run after a step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipes::MovingAverage;

/// The state of a run; one line of `metrics.jsonl` after every step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Optimiser steps, including skipped ones.
    pub step: u64,
    /// Seconds of training, including those before a resume.
    pub seconds: f64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Predictions that were trained.
    pub trained_tokens: u64,
    /// Examples that were trained.
    pub examples: u64,
    /// The loss of the latest step.
    pub loss: f64,
    /// The fraction of the latest step's examples in which every completion token was the most likely one.
    pub exact: f64,
    /// The moving average of `exact` at the current difficulty.
    pub exact_average: MovingAverage,
    /// The moving average of `exact` for every tag.
    pub exact_by_tag: BTreeMap<String, MovingAverage>,
    /// The difficulty at which examples are made, 0 to 1.
    pub difficulty: f32,
    /// The learning rate of the latest step.
    pub lr: f32,
    /// The gradient norm of the latest step; `None` if the step was skipped.
    pub grad_norm: Option<f32>,
    /// Tokens per second over the latest step.
    pub tokens_per_second: f64,
    /// Steps skipped because their gradient was not finite.
    pub skipped: u64,
}

impl Status {
    /// Returns the status with 0 for a loss or an `exact` that is not finite: JSON has no NaN, which `exact` is when no example could be
    /// judged.
    pub(super) fn finite(&self) -> Self {
        let or_zero = |x: f64| if x.is_finite() { x } else { 0.0 };
        Self { exact: or_zero(self.exact), loss: or_zero(self.loss), ..self.clone() }
    }
}
