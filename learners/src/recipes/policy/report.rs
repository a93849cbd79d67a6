//! What an update says about itself: a line a step, and the whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::CriticReport;
use crate::{Error, Result, files, plot};

/// One step; a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Steps of the optimiser.
    pub step: u64,
    /// Seconds since the update began.
    pub seconds: f64,
    /// Tokens that went through the model forward and back so far.
    pub tokens: u64,
    /// The loss of this step's calls before it.
    pub loss: f64,
    /// Mean reward of the episodes in the update.
    pub reward: f64,
    /// Divergence from the policy at the start, k3, nats a trained token.
    pub kl: f64,
    /// Share of its probability that the policy has moved from what was said, 0 to 1, over the latest steps ([`crate::losses::moved`]).
    pub moved: f64,
    /// Fraction of ratios that are clipped.
    pub clip_fraction: f64,
    /// The gradient's norm; `None` if the step was skipped.
    pub grad_norm: Option<f32>,
    /// Learning rate.
    pub lr: f32,
    /// Tokens a second over this step.
    pub tokens_per_second: f64,
}

/// The whole update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Episodes given.
    pub episodes: usize,
    /// Groups of equal tasks.
    pub groups: usize,
    /// Of them, those whose episodes all earned the same: they were left out before any forward.
    pub flat_groups: usize,
    /// Calls trained on.
    pub calls: usize,
    /// Calls left out because they were too long.
    pub too_long: usize,
    /// Calls left out because the policy had no doubt about them.
    #[serde(default)]
    pub sure: usize,
    /// Tokens trained, each counted once an epoch.
    pub trained_tokens: usize,
    /// Tokens that went through the model forward and back.
    pub tokens: u64,
    /// Mean reward of all episodes.
    pub reward: f64,
    /// Fraction of all episodes whose outcome was good.
    pub success: f64,
    /// Mean absolute advantage of the calls trained on.
    pub mean_advantage: f64,
    /// Mean over episodes of the sum of MiRA's shaping; beside `reward` it says whether shaping dwarfs the outcome.
    pub mean_shaping: f64,
    /// Clusters of equal states by size, with step-level credit.
    pub cluster_sizes: BTreeMap<usize, usize>,
    /// Mean absolute distance of the trainer's from the sampler's log-probabilities before the update, nats.
    pub sampler_difference: f64,
    /// The largest.
    pub sampler_difference_max: f64,
    /// What the doctor said before the first step.
    pub doctor: Vec<String>,
    /// Mean entropy of the trained tokens' distributions before the update, nats.
    pub entropy: f64,
    /// Calls of earlier rounds among those trained on.
    pub replayed: usize,
    /// How MiRA's critics were fitted.
    pub critics: Option<CriticReport>,
    /// Divergence of the finished policy from that at the start, at the last step; k3, nats a token.
    pub kl: f64,
    /// Share of its probability that the finished policy has moved from what was said, 0 to 1 ([`crate::losses::moved`]).
    #[serde(default)]
    pub moved: f64,
    /// Largest fraction of clipped ratios in a step.
    pub clip_fraction: f64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Steps skipped for a gradient that was not finite.
    pub skipped: u64,
    /// Loss of the first step.
    pub first_loss: f64,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Seconds.
    pub seconds: f64,
}

/// A bar or log lines, and `metrics.jsonl`.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    file: File,
    path: PathBuf,
}

impl Progress {
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

    pub fn finish(&self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        plot::draw_file(&self.path, &self.path.with_extension("svg"))
    }
}
