//! The command line of `milepost client`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

use super::task::{JsonArgs, WantArgs};

/// The exit codes, which `milepost client --help` shows.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the task failed, or its check does not hold or could not be decided
  2  bad input, or the daemon refused the request
  3  the task waits for a person: it needs an approval, or it was interrupted
  4  cancelled
  5  the daemon cannot be reached, or it failed";

/// The arguments of `milepost client`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ClientArgs {
    /// Address of the daemon [default: this machine, at `serve.port`]
    #[arg(long, global = true, env = "MILEPOST_SERVER", value_name = "URL")]
    pub server: Option<Url>,
    /// File with the token [default: the variable MILEPOST_TOKEN, or else the daemon's own token file]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// The commands of `milepost client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Submit a task
    Submit(Box<SubmitArgs>),
    /// List tasks, newest first
    List {
        /// List tasks in this state only: queued, running, needs_approval, interrupted, done, failed or cancelled
        #[arg(long)]
        state: Option<String>,
        /// List the tasks of this caller only, who is named by a token's name
        #[arg(long)]
        caller: Option<String>,
        /// Maximum number of tasks
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Continue an earlier listing: the value of its `next`
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
        /// The task's id
        id: String,
        /// How the task is followed.
        #[command(flatten)]
        how: FollowArgs,
    },
    /// Cancel a task
    Cancel(TaskArgs),
    /// Start an interrupted task again
    Resume(TaskArgs),
    /// Approve the action that a task waits with
    Approve(AnswerArgs),
    /// Refuse the action that a task waits with; the agent is told, and the run continues
    Deny(AnswerArgs),
    /// Send the agent a message
    Message {
        /// The task's id
        id: String,
        /// The message
        text: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether an ended task was done as you wanted, so that its episode can be learned from
    Feedback {
        /// The task's id
        id: String,
        /// Whether the task was done as you wanted
        outcome: OutcomeArg,
        /// Reason for the record
        #[arg(long)]
        note: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the new events of all tasks until Ctrl-C
    Watch(JsonArgs),
}

/// The arguments of `milepost client submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The goal, in your own words
    pub goal: String,
    /// Address of the page to start on (http or https)
    #[arg(long)]
    pub url: Url,
    /// The rest of the task.
    #[command(flatten)]
    pub want: WantArgs,
    /// Name of a secret in the daemon's configuration that may be typed; may be given more than once
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// Name of a browser profile of the daemon, which keeps cookies and storage between tasks
    #[arg(long)]
    pub profile: Option<String>,
    /// Priority; tasks with a higher one start first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i16,
    /// Submit the task only once: the same task with the same key is not queued again
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Allow the daemon to repeat the task after a crash even if it had already acted
    #[arg(long)]
    pub idempotent: bool,
    /// Seed of all random sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Follow the task until it ends
    #[arg(long)]
    pub follow: bool,
    /// How the task is followed.
    #[command(flatten)]
    pub how: FollowArgs,
}

/// How a task is followed.
#[derive(Clone, Copy, Debug, Args)]
pub struct FollowArgs {
    /// Ask for approvals here even if this is no terminal; the answers are read from stdin
    #[arg(long, conflicts_with = "json")]
    pub ask: bool,
    /// Keep following while the task waits for a person, until somebody else decides
    #[arg(long, conflicts_with = "ask")]
    pub wait: bool,
    /// Print one line of JSON for each event
    #[arg(long)]
    pub json: bool,
}

/// The arguments of a command on one task.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// The task's id
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of a decision about a task.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The task's id
    pub id: String,
    /// Note for the record and the agent
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A person's verdict on an ended task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutcomeArg {
    /// The task was done
    Success,
    /// The task was not done
    Failure,
}
