//! Milepost's contracts, its agent loop, and the store of episodes.
//!
//! Everything here is plain data and narrow traits; concrete engines, browsers, policies and suites are in other crates, and only the
//! binary connects them to these traits.

pub mod action;
pub mod agent;
pub mod call;
pub mod check;
pub mod config;
pub mod episode;
pub mod error;
pub mod grammar;
pub mod hash;
pub mod hosts;
pub mod judge;
pub mod listener;
pub mod observation;
pub mod overseer;
pub mod plan;
pub mod process;
pub mod progress;
pub mod registry;
pub mod reward;
pub mod secrets;
pub mod store;
pub mod task;
pub mod text;
pub mod traits;

pub use action::{Action, ActionKind, Direction, Key};
pub use agent::Agent;
pub use call::{Call, Generation, Message, Role, Span, Speaker};
pub use check::{Check, Verdict};
pub use episode::{Episode, Outcome, Step, Stop};
pub use error::{Error, Result};
pub use grammar::Grammar;
pub use judge::{Judge, Judged, Judgement, MilestoneSource, MilestonesReached, PlanScores, Question, Reached, Verdicts};
pub use listener::{Event, Listener, NoListener};
pub use observation::{Element, Observation, Rect, State};
pub use overseer::{ApprovalDecision, Overseer, RefusedAction};
pub use plan::{Milestone, Plan, PlanStep, Planned, Revision, StepStatus};
pub use registry::{AdapterRegistry, DirectoryRegistry};
pub use reward::{JudgeRef, RewardTerm};
pub use secrets::Secrets;
pub use store::{EpisodeStore, SqliteStore};
pub use task::{Capability, Limits, Source, Split, Task};
pub use traits::{
    Answered, Checker, Context, Decision, Engine, Environment, GenerateRequest, Generated, GenerationEngine, Policy, Probes, ScoreRequest,
    Tool, Verifier,
};
