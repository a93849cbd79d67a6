//! The narrow traits behind which models, browsers, policies and stores live.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::action::{Action, ToolForm};
use crate::call::{Call, Generation, Message, Role};
use crate::check::Verdict;
use crate::episode::{Episode, Outcome, Step};
use crate::error::Result;
use crate::grammar::Grammar;
use crate::observation::Observation;
use crate::plan::{Milestone, Plan, Planned, Revision};
use crate::task::Task;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// What the call is for.
    pub role: Role,
    /// The chat so far.
    pub messages: Vec<Message>,
    /// The grammar of the answer; `None` samples freely.
    pub grammar: Option<Grammar>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// Most completion tokens.
    pub max_tokens: usize,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The completion's text, without the end token.
    pub text: String,
    /// The record of the call (its spans: one, of the request's role).
    pub call: Call,
    /// Text length (bytes) after each completion token, for cutting spans: `ends[i]` = bytes of text through token i.
    pub ends: Vec<usize>,
}

/// What to score: log-probabilities of a completion given a prompt, free or under a grammar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// Prompt token ids.
    pub prompt_ids: Vec<u32>,
    /// Completion token ids.
    pub completion_ids: Vec<u32>,
    /// Grammar whose masks apply, if any.
    pub grammar: Option<Grammar>,
    /// Temperature of the distribution (0 is read as 1).
    pub temperature: f32,
}

/// A proof of identity that travels with an adapter: what the served model must answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probes {
    /// What is scored (without grammar).
    pub requests: Vec<ScoreRequest>,
    /// The trainer's log-probabilities of the merged model, one list per request.
    pub expected: Vec<Vec<f32>>,
    /// The parent's log-probabilities, one list per request.
    pub parent: Vec<Vec<f32>>,
}

/// A model that answers.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Generates one completion. At most one runs at a time in the local engine; callers queue.
    async fn generate(&self, request: GenerateRequest) -> Result<Generated>;
    /// Log-probability of each completion token; nats.
    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>>;
    /// What answers now.
    fn generation(&self) -> Generation;
    /// Builds the model with the adapter in `adapter`, proves it on the probes, and puts it into service; on failure the old
    /// generation goes on serving and the error says why.
    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation>;
    /// Puts the base model without an adapter back into service: where a rollback from the first generation leads.
    async fn serve_base(&self) -> Result<Generation>;
}

/// What a policy may look at when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The task.
    pub task: &'a Task,
    /// The plan so far (version 0 and empty before the first).
    pub plan: &'a Plan,
    /// Steps so far, oldest first.
    pub steps: &'a [Step],
    /// The page now.
    pub observation: &'a Observation,
    /// Tools that exist.
    pub tools: &'a [ToolForm],
    /// Whether the loop demands a revision (a stall, a missed check).
    pub stalled: bool,
    /// What people said to the agent during the run, oldest first.
    pub messages: &'a [String],
    /// Seed of this decision's sampling.
    pub seed: u64,
}

/// A policy's decision in one turn.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What becomes of the plan, before the action.
    pub revision: Revision,
    /// What to do.
    pub action: Action,
    /// The model calls made, in order.
    pub calls: Vec<Call>,
}

/// A policy's answer text.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// The model calls made.
    pub calls: Vec<Call>,
}

/// Decides. Model policies, oracles and scripted ones look the same to the loop.
#[async_trait]
pub trait Policy: Send + Sync {
    /// The policy's name (`adaplan`, `subgoal`, `frozen`, `react`, `oracle`, …).
    fn name(&self) -> &str;
    /// The first plan, from the goal and the first observation; empty for a policy that does not plan.
    async fn plan(&self, context: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)>;
    /// One turn.
    async fn turn(&self, context: Context<'_>) -> Result<Decision>;
    /// The answer's text, from the episode.
    async fn answer(&self, context: Context<'_>) -> Result<Answered>;
}

/// A place to act in: a browser on a site.
#[async_trait]
pub trait Environment: Send {
    /// Opens the task's start page.
    async fn reset(&mut self, task: &Task) -> Result<()>;
    /// Looks at the page.
    async fn observe(&mut self) -> Result<Observation>;
    /// Carries out one browser action (never `call`, `answer` or `stop`). A failed action is an `Outcome`, not an error.
    async fn act(&mut self, action: &Action) -> Result<Outcome>;
    /// A text from beside the page (a tool's result, an error) with the values of this environment's secrets replaced by their placeholders.
    fn scrubbed(&self, text: &str) -> String;
    /// A PNG of the viewport, where the environment can draw one.
    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>>;
    /// Ends the session and everything it started.
    async fn close(&mut self) -> Result<()>;
}

/// Something that can be called beside the browser.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Name and JSON schema of the arguments.
    fn form(&self) -> ToolForm;
    /// Calls it; the text goes to the next observation. `task` bounds what it may reach.
    async fn call(&self, arguments: &serde_json::Value, task: &Task) -> Result<String>;
    /// Whether a call may change something; a tool that only reads says no, and a run that only reads may be repeated after a crash.
    fn changes(&self) -> bool {
        true
    }
}

/// Decides a milestone that has no check.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// The verdict; a failed call is an error (missing), never `False`.
    async fn verify(&self, milestone: &Milestone, observation: &Observation) -> Result<(Verdict, Vec<Call>)>;
}

/// Decides whether a finished episode did what its task asked.
#[async_trait]
pub trait Checker: Send + Sync {
    /// `Some(true)` for done, `Some(false)` for not, `None` where it cannot be told.
    async fn check(&self, episode: &Episode) -> Result<Option<bool>>;
}
