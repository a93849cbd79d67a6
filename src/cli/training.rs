//! The command line of training: learn, improve, experiment, adapters.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use milepost_improve::config::Recipe;
use milepost_improve::schedule::{Trigger, episodes, times};

use super::suite::EnvironmentArg;
use super::task::JsonArgs;

/// The arguments of `milepost improve`.
#[derive(Debug, Args)]
pub struct ImproveArgs {
    /// Recipe by which a round learns [default: `improve.recipe`]
    #[arg(long, value_parser = recipes())]
    pub recipe: Option<Recipe>,
    /// Tasks to learn from: training tasks of the bundled suite, or your own recorded tasks with a verified outcome [default: bundled]
    #[arg(long, value_parser = ["bundled", "own"])]
    pub suite: Option<String>,
    /// Number of rounds [default: 1]
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Adapter (a generation's id, or a directory) that the first round takes to the gate instead of training one
    #[arg(long, conflicts_with_all = ["schedule", "every", "resume"])]
    pub candidate: Option<String>,
    /// Time limit, such as 40m or 2h; it is checked between stages
    #[arg(long, value_parser = duration)]
    pub budget: Option<Duration>,
    /// Where episodes run [default: browser]
    #[arg(long)]
    pub environment: Option<EnvironmentArg>,
    /// Number of test tasks on which each generation is measured again at the end [default: `improve.remeasure`]
    #[arg(long)]
    pub remeasure: Option<usize>,
    /// Start a run at these times until stopped: a cron pattern in local time, such as "0 3 * * *"
    #[arg(long, value_parser = times, conflicts_with = "every")]
    pub schedule: Option<Trigger>,
    /// Start a run after this number of new verified episodes of your own tasks, such as 64-episodes, until stopped
    #[arg(long, value_parser = episodes)]
    pub every: Option<Trigger>,
    /// Continue the latest run with its own settings instead of starting a new one; only --budget may differ
    #[arg(long)]
    pub resume: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `milepost experiment`.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Experiment files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Directory for the work; what is already done there is not repeated
    #[arg(long, default_value = "runs/experiments")]
    pub work: PathBuf,
    /// Directory for the results
    #[arg(long, default_value = "docs/results")]
    pub results: PathBuf,
    /// Where episodes run
    #[arg(long, default_value = "plain")]
    pub environment: EnvironmentArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Returns a parser of recipes; the help lists each with its summary.
fn recipes() -> impl TypedValueParser<Value = Recipe> {
    let values = Recipe::ALL.map(|recipe| PossibleValue::new(recipe.word()).help(recipe.summary()));
    PossibleValuesParser::new(values).try_map(|word| word.parse::<Recipe>())
}

/// Parses a duration such as 90s, 40m or 2h.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write it as 90s, 40m or 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// The commands of `milepost learn`.
#[derive(Debug, Subcommand)]
pub enum LearnCommand {
    /// Train a small model from nothing, or an adapter, on the suite's demonstrations or your own data
    Sft(SftArgs),
    /// Check a training set-up: whether every tensor receives a gradient, and only from the right tokens
    Doctor {
        /// Directory of the model that would be trained [default: `local.model`]
        #[arg(long)]
        from: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run one update of the policy on recorded episodes; the improvement loop starts this command as a process of its own
    Policy {
        /// File with the update's request (JSON)
        request: PathBuf,
        /// Niceness of the process, 0 to 19
        #[arg(long, default_value_t = 0)]
        nice: i32,
        /// Maximum memory of the process in GiB [default: no limit]
        #[arg(long)]
        memory_gib: Option<u64>,
    },
    /// Draw the curves of a training run
    Plot {
        /// The run's `metrics.jsonl`
        metrics: PathBuf,
        /// Picture to write [default: `curve.svg` in the same directory]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// The arguments of `milepost learn sft`.
#[derive(Debug, Args)]
pub struct SftArgs {
    /// Directory of the run: its checkpoints and metrics, and the model in `model/`
    #[arg(long)]
    pub out: PathBuf,
    /// Training data: `suite:bundled`, or a directory of `*.jsonl` files with lines {"prompt" or "messages", "completion"}
    #[arg(long, default_value = "suite:bundled")]
    pub data: String,
    /// Duration of the training in minutes [default: `learn.minutes`]
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Number of training steps, instead of a duration
    #[arg(long)]
    pub steps: Option<u64>,
    /// Continue from the last checkpoint in the directory
    #[arg(long)]
    pub resume: bool,
    /// Directory of the model to start from, instead of a new model
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Difficulty at which the curriculum starts, 0 to 1 [default: `learn.curriculum_start`]
    #[arg(long)]
    pub difficulty: Option<f32>,
}

/// The commands of `milepost adapters`.
#[derive(Debug, Subcommand)]
pub enum AdaptersCommand {
    /// List the generations
    List(JsonArgs),
    /// Show a generation: its lineage, figures, history and training curve
    Show {
        /// The generation's id, or a unique beginning of it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two adapters: their settings, their figures, and the distance between their weights
    Diff {
        /// The first adapter: a generation's id, or a directory
        first: String,
        /// The second adapter: a generation's id, or a directory
        second: String,
        /// Directory of the model that they belong to [default: `local.model`, or `remote.base`]
        #[arg(long)]
        base: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a generation into service, after it has proved itself on the model
    Promote {
        /// The generation's id or a unique beginning of it, or the directory of an adapter, which is then registered
        #[arg(value_name = "ID")]
        id: String,
        /// Reason for the record
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the generation that served before back into service
    Rollback {
        /// Reason for the record
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an adapter's shape, norms and lineage
    Inspect {
        /// Directory of the adapter
        directory: PathBuf,
        /// Directory of the model that it belongs to
        #[arg(long, default_value = "models/seed")]
        base: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the model with the adapter merged into its weights
    Merge {
        /// Directory of the adapter
        directory: PathBuf,
        /// Directory of the model that it belongs to
        #[arg(long)]
        base: PathBuf,
        /// Directory that the merged model is written to
        #[arg(long)]
        out: PathBuf,
    },
    /// Write the adapter in the format of another program
    Export {
        /// Directory of the adapter
        directory: PathBuf,
        /// Directory of the model that it belongs to
        #[arg(long)]
        base: PathBuf,
        /// Format
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// File to write
        #[arg(long)]
        out: PathBuf,
    },
}

/// The formats of `milepost adapters export`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExportFormat {
    /// GGUF, for llama.cpp
    Gguf,
}
