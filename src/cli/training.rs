//! The command line of training: learn, improve, experiment, adapters.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{JsonArgs, PlaceArg};
use crate::improve::config::Recipe;
use crate::improve::schedule::{Trigger, episodes, times};

/// `milepost improve`.
#[derive(Debug, Args)]
pub struct ImproveArgs {
    /// How a round learns [default: `improve.recipe`]
    #[arg(long, value_enum)]
    pub recipe: Option<Recipe>,
    /// What is learned from: training tasks of the bundled suite, or your own recorded tasks with a verified outcome [default: bundled]
    #[arg(long, value_parser = ["bundled", "own"])]
    pub suite: Option<String>,
    /// Rounds [default: 1]
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Take this adapter (a generation's id, or a directory) to the gate, instead of training one in the first round
    #[arg(long, conflicts_with_all = ["schedule", "every", "resume"])]
    pub candidate: Option<String>,
    /// Most time, such as 40m or 2h; checked between stages
    #[arg(long, value_parser = duration)]
    pub budget: Option<std::time::Duration>,
    /// Where episodes run [default: browser]
    #[arg(long)]
    pub environment: Option<PlaceArg>,
    /// Test tasks for measuring each generation again at the end [default: `improve.remeasure`]
    #[arg(long)]
    pub remeasure: Option<usize>,
    /// Run at these times, as a cron pattern in local time ("0 3 * * *"), until stopped
    #[arg(long, value_parser = times, conflicts_with = "every")]
    pub schedule: Option<Trigger>,
    /// Run after so many new verified episodes of your own tasks (64-episodes), until stopped
    #[arg(long, value_parser = episodes)]
    pub every: Option<Trigger>,
    /// Go on with the latest run as it was begun, instead of beginning a new one; only its --budget may be another
    #[arg(long)]
    pub resume: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `milepost experiment`.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Experiment files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where the work lies; what is done there is not done again
    #[arg(long, default_value = "runs/experiments")]
    pub work: PathBuf,
    /// Where results go
    #[arg(long, default_value = "docs/results")]
    pub results: PathBuf,
    /// Where episodes run
    #[arg(long, default_value = "plain")]
    pub environment: PlaceArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads 90s, 40m or 2h.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is no time; write it as 90s, 40m or 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    std::time::Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// `milepost learn`.
#[derive(Debug, Subcommand)]
pub enum LearnCommand {
    /// Train a small model from nothing, or an adapter, on the suite's demonstrations or your own data
    Sft(SftArgs),
    /// Check a training set-up: does every tensor receive a gradient, and from the right tokens only?
    Doctor {
        /// The model that would be trained [default: `local.model`]
        #[arg(long)]
        from: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Update the policy from recorded episodes, as a request file says; the improvement loop runs this as a process of its own
    Policy {
        /// The request (JSON)
        request: PathBuf,
        /// Niceness, 0 to 19
        #[arg(long, default_value_t = 0)]
        nice: i32,
        /// Most memory in GiB
        #[arg(long)]
        memory_gib: Option<u64>,
    },
    /// Draw the curves of a training run
    Plot {
        /// The run's `metrics.jsonl`
        metrics: PathBuf,
        /// The picture to write [default: beside it, `curve.svg`]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// `milepost learn sft`.
#[derive(Debug, Args)]
pub struct SftArgs {
    /// Directory of the run: checkpoints, metrics, and the model in `model/`
    #[arg(long)]
    pub out: PathBuf,
    /// What to learn from: `suite:bundled`, or a directory of `*.jsonl` with lines {"prompt" or "messages", "completion"}
    #[arg(long, default_value = "suite:bundled")]
    pub data: String,
    /// Minutes to train [default: `learn.minutes`]
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Steps to train, where no minutes are given
    #[arg(long)]
    pub steps: Option<u64>,
    /// Go on from the last checkpoint in the directory
    #[arg(long)]
    pub resume: bool,
    /// Begin from this model directory instead of from nothing
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Begin the curriculum at this difficulty, 0 to 1 [default: `learn.curriculum_start`]
    #[arg(long)]
    pub difficulty: Option<f32>,
}

/// `milepost adapters`.
#[derive(Debug, Subcommand)]
pub enum AdaptersCommand {
    /// List the generations
    List(JsonArgs),
    /// Show a generation: lineage, figures, history, curve
    Show {
        /// Id, or the unique beginning of one
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two adapters: settings, figures, and how far their weights are apart
    Diff {
        /// A generation's id, or an adapter's directory
        first: String,
        /// Another
        second: String,
        /// The model that they belong to [default: `local.model`, or `remote.base`]
        #[arg(long)]
        base: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a generation into service, once it has proved itself
    Promote {
        /// Id, or the unique beginning of one; or the directory of an adapter that is registered by this
        #[arg(value_name = "ID")]
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to what served before
    Rollback {
        /// Why, for the record
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an adapter's shape, norms and lineage
    Inspect {
        /// The adapter's directory
        directory: PathBuf,
        /// The model that it belongs to
        #[arg(long, default_value = "models/seed")]
        base: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the model with the adapter merged into its weights
    Merge {
        /// The adapter's directory
        directory: PathBuf,
        /// The model that it belongs to
        #[arg(long)]
        base: PathBuf,
        /// The model directory to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Write the adapter for another program
    Export {
        /// The adapter's directory
        directory: PathBuf,
        /// The model that it belongs to
        #[arg(long)]
        base: PathBuf,
        /// The format
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The file to write
        #[arg(long)]
        out: PathBuf,
    },
}

/// Formats of `milepost adapters export`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExportFormat {
    /// GGUF, for llama.cpp
    Gguf,
}
