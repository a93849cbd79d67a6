//! Model policies (`adaplan`, `subgoal`, `frozen`, `react`), summarizer, verifier and judge, with their prompts as templates.
//!
//! A policy turns a [`milepost_runtime::Context`] into messages and a grammar, calls an engine, and parses the completion; it holds no
//! state between turns.

mod checklist;
mod config;
mod judge;
mod loaded;
mod policy;
mod prompts;
mod templates;
mod verifier;

pub use config::{PlannerKind, PlannersConfig, PromptProfile, ReviseMode};
pub use judge::{CachedJudge, JudgeConfig, ModelJudge};
pub use loaded::LoadedModel;
pub use policy::ModelPolicy;
pub use prompts::{Prompts, turn_completion};
pub use verifier::ModelVerifier;
