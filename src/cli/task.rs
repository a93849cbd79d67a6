//! The command line of single tasks and pages: run, observe, drive.

use std::path::PathBuf;

use clap::Args;
use milepost_planners::PlannerKind;

/// The arguments of a command that has only `--json`.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments that describe a task, for `run` and `client submit`.
#[derive(Debug, Args)]
pub struct WantArgs {
    /// Planner: adaplan, subgoal, frozen or react [default: `policy.planner`]
    #[arg(long)]
    pub planner: Option<PlannerKind>,
    /// Condition that holds when the task is done, such as 'text visible "Order placed"'
    #[arg(long, value_name = "CHECK")]
    pub check: Option<String>,
    /// Maximum number of actions [default: `limits.max_steps`]
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,
    /// Another host that the task may reach (`name`, `name:port` or `*.suffix`); may be given more than once
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
}

/// The arguments of `milepost run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The goal, in your own words
    pub goal: String,
    /// Address of the page to start on (http or https)
    #[arg(long)]
    pub url: String,
    /// The rest of the task.
    #[command(flatten)]
    pub want: WantArgs,
    /// Secret that may be typed on the start page's origin, as NAME=env:VARIABLE; may be given more than once
    #[arg(long = "secret", value_name = "NAME=env:VARIABLE")]
    pub secrets: Vec<String>,
    /// Show the browser's window
    #[arg(long)]
    pub headed: bool,
    /// Seed of all random sampling
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the episode as JSON instead of the live view
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `milepost observe`.
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// Address of the page
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `milepost drive`.
#[derive(Debug, Args)]
pub struct DriveArgs {
    /// Address of the first page
    pub url: String,
    /// Read the action lines from this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Print one line of JSON for each action
    #[arg(long)]
    pub json: bool,
    /// Show the browser's window
    #[arg(long)]
    pub headed: bool,
}
