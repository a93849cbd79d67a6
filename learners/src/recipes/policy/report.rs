//! The output of an update: one line of metrics per step, and a report at the end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::critics::CriticReport;
use crate::{Error, Result, files, plot};

/// The metrics of one step; a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Optimiser steps so far.
    pub step: u64,
    /// Seconds since the update began.
    pub seconds: f64,
    /// Tokens that went through forward and backward passes so far.
    pub tokens: u64,
    /// The loss of this step's calls before the step.
    pub loss: f64,
    /// The mean reward of the episodes in the update.
    pub reward: f64,
    /// KL divergence from the policy at the start of the update, by k3, in nats per trained token.
    pub kl: f64,
    /// The share of probability that the policy has moved away from the sampled tokens, 0 to 1, averaged over the latest steps
    /// ([`crate::losses::total_variation`]).
    pub moved: f64,
    /// The fraction of clipped ratios.
    pub clip_fraction: f64,
    /// The gradient norm; `None` if the step was skipped.
    pub grad_norm: Option<f32>,
    /// Learning rate.
    pub lr: f32,
    /// Tokens per second over this step.
    pub tokens_per_second: f64,
}

/// The report on a whole update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The number of episodes, without replayed ones.
    pub episodes: usize,
    /// The number of groups; a group holds the episodes of one task.
    pub groups: usize,
    /// The number of groups with equal rewards, which were left out before any forward pass.
    pub flat_groups: usize,
    /// The number of calls trained on.
    pub calls: usize,
    /// The number of calls left out because they were too long.
    pub too_long: usize,
    /// The number of calls left out because the policy was too certain about them.
    #[serde(default)]
    pub sure: usize,
    /// The number of trained tokens of one epoch.
    pub trained_tokens: usize,
    /// The number of tokens that went through forward and backward passes.
    pub tokens: u64,
    /// The mean reward of the episodes.
    pub reward: f64,
    /// The fraction of the episodes that succeeded.
    pub success: f64,
    /// The mean absolute advantage of the calls trained on.
    pub mean_advantage: f64,
    /// The mean over episodes of the sum of MiRA's shaping; compared with `reward` it shows whether shaping dwarfs the outcome.
    pub mean_shaping: f64,
    /// The number of clusters of equal states by size, with step-level credit.
    pub cluster_sizes: BTreeMap<usize, usize>,
    /// The mean absolute difference between the trainer's and the sampler's log-probabilities before the update, in nats.
    pub sampler_difference: f64,
    /// The maximum of that difference.
    pub sampler_difference_max: f64,
    /// The doctor's findings before the first step.
    pub doctor: Vec<String>,
    /// The mean entropy of the trained tokens' distributions before the update, in nats.
    pub entropy: f64,
    /// The number of replayed calls among those trained on.
    pub replayed: usize,
    /// How the critics were fitted.
    pub critics: Option<CriticReport>,
    /// KL divergence of the policy from the one at the start, at the last step, by k3, in nats per token.
    pub kl: f64,
    /// The share of probability that the policy has moved away from the sampled tokens at the end, 0 to 1
    /// ([`crate::losses::total_variation`]).
    #[serde(default)]
    pub moved: f64,
    /// The maximum fraction of clipped ratios in a step.
    pub clip_fraction: f64,
    /// Optimiser steps, including skipped ones.
    pub steps: u64,
    /// Steps skipped because their gradient was not finite.
    pub skipped: u64,
    /// The loss of the first step.
    pub first_loss: f64,
    /// The loss of the last step.
    pub last_loss: f64,
    /// The duration of the update in seconds.
    pub seconds: f64,
}

/// Writes the progress of an update: a progress bar or log lines, and `metrics.jsonl`.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    file: File,
    path: PathBuf,
}

impl Progress {
    /// Creates `metrics.jsonl` in `directory`.
    pub fn new(directory: &Path, steps: u64) -> Result<Self> {
        let path = directory.join("metrics.jsonl");
        files::replace(&path, b"")?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg} eta {eta}");
            ProgressBar::new(steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Ok(Self { bar, file, path })
    }

    /// Displays one step and writes it to `metrics.jsonl`.
    pub fn step(&mut self, status: &Status) -> Result<()> {
        let line = serde_json::to_string(status).map_err(Error::json(&self.path))?;
        writeln!(self.file, "{line}").map_err(Error::io(&self.path))?;
        let message = format!(
            "loss {:.4}  reward {:.2}  KL {:.4}  {:.1}k tok/s",
            status.loss,
            status.reward,
            status.kl,
            status.tokens_per_second / 1e3
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(status.step);
                bar.set_message(message);
            }
            None => tracing::info!(step = status.step, "{message}"),
        }
        Ok(())
    }

    /// Finishes the progress bar and plots the metrics to `metrics.svg`.
    pub fn finish(&self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        plot::draw_file(&self.path, &self.path.with_extension("svg"))
    }
}
