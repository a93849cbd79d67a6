//! The progress output of a run: a progress bar or log lines, `metrics.jsonl`, and a plot at the end.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::config::{Budget, SftConfig};
use super::status::Status;
use crate::{Error, Result, files, plot};

/// Writes the progress of a run.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    file: File,
    path: PathBuf,
    budget: Budget,
    log_every: u64,
}

impl Progress {
    /// Opens `metrics.jsonl` in `directory`, keeping the lines up to the step of `status`.
    pub fn new(config: &SftConfig, directory: &Path, status: &Status) -> Result<Self> {
        let path = directory.join("metrics.jsonl");
        // Steps after the checkpoint were lost when the earlier process ended, and are repeated.
        let written = if status.step > 0 { std::fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let kept: String = written.lines().take(status.step as usize).map(|line| format!("{line}\n")).collect();
        files::replace(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Ok(Self { bar, file, path, budget: config.budget(), log_every: config.log_every })
    }

    /// Displays one step and writes it to `metrics.jsonl`.
    pub fn step(&mut self, status: &Status) -> Result<()> {
        let line = serde_json::to_string(&status.finite()).map_err(Error::json(&self.path))?;
        writeln!(self.file, "{line}").map_err(Error::io(&self.path))?;
        let done = self.budget.fraction_spent(status).min(1.0);
        if let Some(bar) = &self.bar {
            bar.set_position((done * 1000.0) as u64);
            bar.set_message(describe(status, done));
        } else if status.step == 1 || status.step.is_multiple_of(self.log_every) {
            eprintln!("step {:>6}  {}", status.step, describe(status, done));
        }
        Ok(())
    }

    /// Finishes the progress bar and plots the metrics to `metrics.svg`.
    pub fn finish(&self, status: &Status) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_with_message(describe(status, 1.0));
        }
        for (tag, average) in &status.exact_by_tag {
            tracing::info!(tag, exact = average.value, examples = average.count, "trained");
        }
        plot::draw_file(&self.path, &self.path.with_extension("svg"))
    }
}

/// Formats the status as one line for the progress bar or the log.
fn describe(status: &Status, done: f64) -> String {
    let left = if done > 0.0 { status.seconds / done * (1.0 - done) } else { 0.0 };
    format!(
        "loss {:.4}  exact {:.2} (average {:.2})  difficulty {:.2}  {:.1}k tok/s  lr {:.1e}  left {}",
        status.loss,
        status.exact,
        status.exact_average.value,
        status.difficulty,
        status.tokens_per_second / 1000.0,
        status.lr,
        indicatif::HumanDuration(Duration::from_secs_f64(left)),
    )
}
