//! The command line of the bundled suite: suite, judge.

use clap::{Args, Subcommand, ValueEnum};
use milepost_improve::host::EnvironmentKind;
use milepost_planners::PlannerKind;
use milepost_suites::Level;

use super::task::JsonArgs;

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

impl From<LevelArg> for Level {
    fn from(argument: LevelArg) -> Self {
        match argument {
            LevelArg::Easy => Self::Easy,
            LevelArg::Medium => Self::Medium,
            LevelArg::Long => Self::Long,
        }
    }
}

/// A selection of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TemplatesArg {
    /// The templates that training may use
    Trained,
    /// The templates that are held out from all training and gating
    HeldOut,
    /// All templates
    All,
}

/// Where suite episodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnvironmentArg {
    /// Real Chromium, on a site that is served on loopback
    Browser,
    /// A reader without scripts in this process: the same observations, many times faster
    Plain,
}

impl From<EnvironmentArg> for EnvironmentKind {
    fn from(argument: EnvironmentArg) -> Self {
        match argument {
            EnvironmentArg::Browser => Self::Browser,
            EnvironmentArg::Plain => Self::Plain,
        }
    }
}

/// The commands of `milepost suite`.
#[derive(Debug, Subcommand)]
pub enum SuiteCommand {
    /// List the task templates
    List(JsonArgs),
    /// Show the goal, plan and milestones of one task
    Show {
        /// The template's id
        template: String,
        /// Seed of the task
        #[arg(long, default_value_t = 10_000)]
        seed: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve the site of one task on loopback until Ctrl-C
    Serve {
        /// The template's id
        template: String,
        /// Seed of the task
        #[arg(long, default_value_t = 10_000)]
        seed: u64,
        /// Port; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Run many episodes and print a report
    Run(SuiteRunArgs),
    /// Run one unseen task of each level with the live view
    Demo {
        /// Seed of the tasks; test seeds start at 10000
        #[arg(long, default_value_t = 10_042)]
        seed: u64,
    },
}

/// The arguments of `milepost suite run`.
#[derive(Debug, Args)]
pub struct SuiteRunArgs {
    /// The suite
    #[arg(long, default_value = "bundled", value_parser = ["bundled"])]
    pub suite: String,
    /// Run this level only
    #[arg(long)]
    pub level: Option<LevelArg>,
    /// The templates to run
    #[arg(long, default_value = "trained")]
    pub templates: TemplatesArg,
    /// Planner: adaplan, subgoal, frozen or react [default: `policy.planner`]
    #[arg(long, conflicts_with = "oracle")]
    pub planner: Option<PlannerKind>,
    /// Let the suite's own oracle act instead of a model
    #[arg(long)]
    pub oracle: bool,
    /// Number of episodes on each level
    #[arg(long, default_value_t = 20)]
    pub episodes: u64,
    /// Seed of the first episode on each level; each further episode has the next seed
    #[arg(long, default_value_t = 10_000)]
    pub first_seed: u64,
    /// Where episodes run
    #[arg(long, default_value = "browser")]
    pub environment: EnvironmentArg,
    /// Take a screenshot of every step; without this option none is taken
    #[arg(long)]
    pub screenshots: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands of `milepost judge`.
#[derive(Debug, Subcommand)]
pub enum JudgeCommand {
    /// Compare the model's verdicts with the ground truth of suite episodes
    Audit(AuditArgs),
}

/// The arguments of `milepost judge audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Number of episodes, which are spread over the templates
    #[arg(long, default_value_t = 20)]
    pub episodes: u64,
    /// Run this level only
    #[arg(long)]
    pub level: Option<LevelArg>,
    /// Planner of the acting policy: adaplan, subgoal, frozen or react [default: `policy.planner`]
    #[arg(long, conflicts_with = "oracle")]
    pub planner: Option<PlannerKind>,
    /// Let the suite's own oracle act instead of a model
    #[arg(long)]
    pub oracle: bool,
    /// Stop every second episode half-way, so that incomplete episodes are judged too
    #[arg(long)]
    pub cut_short: bool,
    /// Maximum number of steps of an episode whose adherence to the plan is judged
    #[arg(long, default_value_t = 4)]
    pub steps: usize,
    /// Seed of the first episode; each further episode has the next seed
    #[arg(long, default_value_t = 10_000)]
    pub first_seed: u64,
    /// Where episodes run
    #[arg(long, default_value = "browser")]
    pub environment: EnvironmentArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
