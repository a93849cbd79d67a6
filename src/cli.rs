//! The command line.

mod client;
mod daemon;
mod episodes;
mod suite;
mod task;
mod training;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use client::{AnswerArgs, ClientArgs, ClientCommand, FollowArgs, OutcomeArg, SubmitArgs, TaskArgs};
pub use daemon::{ServeArgs, TokenCommand};
pub use episodes::EpisodesCommand;
pub use suite::{AuditArgs, EnvironmentArg, JudgeCommand, LevelArg, SuiteCommand, SuiteRunArgs, TemplatesArg};
pub use task::{DriveArgs, JsonArgs, ObserveArgs, RunArgs, WantArgs};
pub use training::{AdaptersCommand, ExperimentArgs, ExportFormat, ImproveArgs, LearnCommand, SftArgs};

/// The exit codes, which `milepost --help` shows.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the task failed, or its check does not hold or could not be decided
  2  bad input or configuration
  3  an action needs a person's approval
  4  cancelled
  5  the environment failed (browser, model, disk, port)";

/// Runs web tasks with a global plan, a local model and a real browser, and learns from its episodes.
#[derive(Debug, Parser)]
#[command(name = "milepost", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Configuration file [default: ./config.yaml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Filter of the log on stderr, such as `info` or `milepost_tools=debug`
    #[arg(long, global = true, default_value = "warn", env = "MILEPOST_LOG", value_name = "FILTER")]
    pub log: String,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one task in a browser
    Run(RunArgs),
    /// List, show, serve and run the tasks of the bundled suite
    #[command(subcommand)]
    Suite(SuiteCommand),
    /// Open a page and show it as the model would see it
    Observe(ObserveArgs),
    /// Act in a browser yourself: type action lines and see the page after each of them
    Drive(DriveArgs),
    /// Serve MCP over stdin and stdout, for an MCP client that starts this program
    Mcp,
    /// List, show, explain, export and remove recorded episodes
    #[command(subcommand)]
    Episodes(EpisodesCommand),
    /// Measure how well a model judges episodes
    #[command(subcommand)]
    Judge(JudgeCommand),
    /// Train a model or an adapter, or check how it would be trained
    #[command(subcommand)]
    Learn(LearnCommand),
    /// Improve the policy: collect episodes, train an adapter, and put it into service if it proves to be better
    Improve(ImproveArgs),
    /// Compare settings: train each of them with several seeds, and write a table and a figure of the results
    Experiment(ExperimentArgs),
    /// List, compare, promote and export adapters
    #[command(subcommand)]
    Adapters(AdaptersCommand),
    /// Run the daemon: it takes tasks over HTTP and has a queue, workers, approvals and events
    Serve(ServeArgs),
    /// Submit tasks to a running daemon, and follow and control them
    Client(ClientArgs),
    /// List, add and revoke the tokens that the daemon accepts
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check browser, driver, model, disk, processor and versions, and say how to fix what is missing
    Doctor(JsonArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The commands of `milepost config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration in force: the defaults, the file and the environment together
    Show(JsonArgs),
    /// Check a configuration file
    Check,
}
