//! The command line of `milepost client`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

use super::{JsonArgs, WantArgs};

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the task failed, or its check does not hold
  2  bad input, or the daemon refused the request
  3  the task needs a person: an approval, or a word after an interruption
  4  cancelled
  5  the daemon cannot be reached, or it failed";

/// `milepost client`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ClientArgs {
    /// The daemon's address [default: this machine, with `serve.port`]
    #[arg(long, global = true, env = "MILEPOST_SERVER", value_name = "URL")]
    pub server: Option<Url>,
    /// The file with the token [default: the variable MILEPOST_TOKEN, then the daemon's own token file]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// The commands of `milepost client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Hand in a task
    Submit(Box<SubmitArgs>),
    /// List tasks, newest first
    List {
        /// Only in this state: queued, running, needs_approval, interrupted, done, failed or cancelled
        #[arg(long)]
        state: Option<String>,
        /// Only of this caller (a token's name)
        #[arg(long)]
        caller: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where to go on: `next` of the listing before
        #[arg(long)]
        cursor: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a task
    Show(TaskArgs),
    /// Follow a task until it ends
    Follow {
        /// The task
        id: String,
        /// How
        #[command(flatten)]
        how: FollowArgs,
    },
    /// Cancel a task
    Cancel(TaskArgs),
    /// Start an interrupted task anew
    Resume(TaskArgs),
    /// Let the action be carried out that a task waits with
    Approve(AnswerArgs),
    /// Refuse that action; the run goes on and is told so
    Deny(AnswerArgs),
    /// Say something to the agent
    Message {
        /// The task
        id: String,
        /// What
        text: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether a finished task was done as asked, which makes its episode one to learn from
    Feedback {
        /// The task
        id: String,
        /// Whether it was
        outcome: OutcomeArg,
        /// Why
        #[arg(long)]
        note: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch what happens to all tasks, from now on, until Ctrl-C
    Watch(JsonArgs),
}

/// A task handed in from the terminal.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// What should be done, in words
    pub goal: String,
    /// Where to begin (http or https)
    #[arg(long)]
    pub url: Url,
    /// What else is said of the task
    #[command(flatten)]
    pub want: WantArgs,
    /// A secret of the daemon's configuration that may be typed; may be given more than once
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// A named browser profile of the daemon
    #[arg(long)]
    pub profile: Option<String>,
    /// Higher goes first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i16,
    /// The same key and task handed in again are the same task
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// The task may be run again after a crash although it had acted
    #[arg(long)]
    pub idempotent: bool,
    /// Seed of all sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Follow it until it ends
    #[arg(long)]
    pub follow: bool,
    /// How
    #[command(flatten)]
    pub how: FollowArgs,
}

/// How a task is followed.
#[derive(Clone, Copy, Debug, Args)]
pub struct FollowArgs {
    /// Ask for approvals here, also where this is no terminal (answers come from stdin)
    #[arg(long, conflicts_with = "json")]
    pub ask: bool,
    /// Stay when the task needs a person, and wait for somebody else to decide
    #[arg(long, conflicts_with = "ask")]
    pub wait: bool,
    /// Print one JSON object an event
    #[arg(long)]
    pub json: bool,
}

/// One task.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// The task
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A decision about a task.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The task
    pub id: String,
    /// In words, for the record and the agent
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Whether a task was done as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutcomeArg {
    /// It was
    Success,
    /// It was not
    Failure,
}
