//! Model policies (`adaplan`, `subgoal`, `frozen`, `react`), summarizer, verifier and judge, with their prompts as templates.
//!
//! A policy turns a [`milepost_runtime::Context`] into messages and a grammar, asks an engine, and reads the answer back;
//! it holds no state between turns.

mod checklist;
mod config;
mod judge;
mod policy;
mod prompts;
mod verifier;

pub use config::{PlannerKind, PlannersConfig, PromptProfile, ReviseMode};
pub use judge::{CachedJudge, JudgeConfig, ModelJudge};
pub use policy::ModelPolicy;
pub use prompts::{Prompts, turn_completion};
pub use verifier::ModelVerifier;
