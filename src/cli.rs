//! The command line.

mod client;
mod daemon;
mod training;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use milepost_planners::PlannerKind;
use serde::{Deserialize, Serialize};

pub use client::{AnswerArgs, ClientArgs, ClientCommand, FollowArgs, OutcomeArg, SubmitArgs, TaskArgs};
pub use daemon::{ServeArgs, TokenCommand};
pub use training::{AdaptersCommand, ExperimentArgs, ExportFormat, ImproveArgs, LearnCommand, SftArgs};

/// Exit codes, shown under `milepost --help`.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the task failed, or its check does not hold
  2  bad input or configuration
  3  an action needs a person's approval
  4  cancelled
  5  the environment failed (browser, model, disk, port)";

/// Runs web tasks with a global plan, a local model and a real browser, and learns from its episodes.
#[derive(Debug, Parser)]
#[command(name = "milepost", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Configuration file [default: ./config.yaml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log to stderr, e.g. `info` or `milepost_tools=debug`
    #[arg(long, global = true, default_value = "warn", env = "MILEPOST_LOG", value_name = "FILTER")]
    pub log: String,
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one task
    Run(RunArgs),
    /// The bundled suite of tasks
    #[command(subcommand)]
    Suite(SuiteCommand),
    /// Show what the model would see of a page
    Observe(ObserveArgs),
    /// Be the agent's hands: type action lines and see each observation
    Drive(DriveArgs),
    /// Be an MCP server over stdin and stdout, for a client that starts this program
    Mcp,
    /// Recorded episodes
    #[command(subcommand)]
    Episodes(EpisodesCommand),
    /// Judges of episodes
    #[command(subcommand)]
    Judge(JudgeCommand),
    /// Train
    #[command(subcommand)]
    Learn(LearnCommand),
    /// Improve the policy: collect episodes, train an adapter, put it into service once it has proved better
    Improve(ImproveArgs),
    /// Run arms against each other over training seeds, with a table and a figure
    Experiment(ExperimentArgs),
    /// Adapters
    #[command(subcommand)]
    Adapters(AdaptersCommand),
    /// Run as a daemon: tasks over HTTP, with a queue, workers, approvals and events
    Serve(ServeArgs),
    /// Hand tasks to a running daemon, follow and steer them
    Client(ClientArgs),
    /// Tokens of the daemon
    #[command(subcommand)]
    Token(TokenCommand),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check browser, driver, model, disk, processor and versions, each with its fix
    Doctor(JsonArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Only `--json`.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `run` and `client submit` say of a task alike.
#[derive(Debug, Args)]
pub struct WantArgs {
    /// adaplan, subgoal, frozen or react
    #[arg(long)]
    pub planner: Option<PlannerKind>,
    /// Your own definition of done, e.g. 'text visible "Order placed"'
    #[arg(long, value_name = "CHECK")]
    pub check: Option<String>,
    /// Most actions
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,
    /// A further host the task may reach (`name`, `name:port` or `*.suffix`); may be given more than once
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
}

/// `milepost run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What should be done, in words
    pub goal: String,
    /// Where to begin (http or https)
    #[arg(long)]
    pub url: String,
    /// What else is said of the task
    #[command(flatten)]
    pub want: WantArgs,
    /// A secret the task may type on the start page's origin: NAME=env:VARIABLE; may be given more than once
    #[arg(long = "secret", value_name = "NAME=env:VARIABLE")]
    pub secrets: Vec<String>,
    /// Show the browser's window
    #[arg(long)]
    pub headed: bool,
    /// Seed of all sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the episode as JSON instead of the live view
    #[arg(long)]
    pub json: bool,
}

/// A level of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Up to 4 actions
    Easy,
    /// 5 to 12 actions
    Medium,
    /// 13 to 40 actions
    Long,
}

/// Which templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TemplatesArg {
    /// Those that training may use
    Trained,
    /// Those held out from all training and gating
    HeldOut,
    /// All
    All,
}

/// Where suite episodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceArg {
    /// Real Chromium over loopback
    Browser,
    /// The script-free reader, in the process: the same observations, many times faster
    Plain,
}

/// `milepost suite`.
#[derive(Debug, Subcommand)]
pub enum SuiteCommand {
    /// List the templates
    List(JsonArgs),
    /// Show one instance: goal, plan, milestones
    Show {
        /// Template id
        template: String,
        /// Seed
        #[arg(long, default_value_t = 10_000)]
        seed: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve one instance's site on loopback until Ctrl-C
    Serve {
        /// Template id
        template: String,
        /// Seed
        #[arg(long, default_value_t = 10_000)]
        seed: u64,
        /// Port [default: any free one]
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Run episodes and report
    Run(SuiteRunArgs),
    /// Run one unseen task of each level live
    Demo {
        /// Test seed
        #[arg(long, default_value_t = 10_042)]
        seed: u64,
    },
}

/// `milepost suite run`.
#[derive(Debug, Args)]
pub struct SuiteRunArgs {
    /// The suite
    #[arg(long, default_value = "bundled", value_parser = ["bundled"])]
    pub suite: String,
    /// One level only
    #[arg(long)]
    pub level: Option<LevelArg>,
    /// Which templates
    #[arg(long, default_value = "trained")]
    pub templates: TemplatesArg,
    /// adaplan, subgoal, frozen or react
    #[arg(long, conflicts_with = "oracle")]
    pub planner: Option<PlannerKind>,
    /// Let the suite's own oracle act
    #[arg(long)]
    pub oracle: bool,
    /// Episodes a level
    #[arg(long, default_value_t = 20)]
    pub episodes: u64,
    /// The i-th episode has this seed plus i
    #[arg(long, default_value_t = 10_000)]
    pub first_seed: u64,
    /// Where episodes run
    #[arg(long, default_value = "browser")]
    pub environment: PlaceArg,
    /// Screenshots of every step (the configuration's setting otherwise applies; `suite run` takes none)
    #[arg(long)]
    pub screenshots: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `milepost observe`.
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// The page
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `milepost drive`.
#[derive(Debug, Args)]
pub struct DriveArgs {
    /// The first page
    pub url: String,
    /// Read action lines from a file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Show the browser's window
    #[arg(long)]
    pub headed: bool,
}

/// `milepost episodes`.
#[derive(Debug, Subcommand)]
pub enum EpisodesCommand {
    /// The newest episodes
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One episode, step by step
    Show {
        /// Id, or the unique beginning of one
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Why an episode failed: its class, and the step that decided it
    Why {
        /// Id, or the unique beginning of one
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The whole episode as JSON
    Export {
        /// Id, or the unique beginning of one
        id: String,
        /// Print JSON (the only form)
        #[arg(long)]
        json: bool,
    },
    /// Keep the episodes of a host out of training; without a host, list those that are kept out
    Quarantine {
        /// The host, such as `shop.example`
        host: Option<String>,
        /// Why
        #[arg(long, default_value = "by hand", requires = "host")]
        reason: String,
        /// Let its episodes in again
        #[arg(long, requires = "host")]
        release: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove episodes older than the retention
    Prune {
        /// Days to keep [default: `episodes.retention_days`]
        #[arg(long)]
        days: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `milepost judge`.
#[derive(Debug, Subcommand)]
pub enum JudgeCommand {
    /// Compare the model as a judge with the ground truth of suite episodes
    Audit(AuditArgs),
}

/// `milepost judge audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Episodes, spread over the templates
    #[arg(long, default_value_t = 20)]
    pub episodes: u64,
    /// One level only
    #[arg(long)]
    pub level: Option<LevelArg>,
    /// Who acts: adaplan, subgoal, frozen or react
    #[arg(long, conflicts_with = "oracle")]
    pub planner: Option<PlannerKind>,
    /// Let the suite's own oracle act
    #[arg(long)]
    pub oracle: bool,
    /// Stop every second episode half-way, so that there is also something incomplete to judge
    #[arg(long)]
    pub cut_short: bool,
    /// Most steps an episode whose adherence is asked for
    #[arg(long, default_value_t = 4)]
    pub steps: usize,
    /// The i-th episode has this seed plus i
    #[arg(long, default_value_t = 10_000)]
    pub first_seed: u64,
    /// Where episodes run
    #[arg(long, default_value = "browser")]
    pub environment: PlaceArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `milepost config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The configuration in force
    Show(JsonArgs),
    /// Check a configuration file
    Check,
}
