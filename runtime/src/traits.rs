//! The traits that models, browsers, policies, tools and checkers implement.

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

/// A request for a completion.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The purpose of the call.
    pub role: Role,
    /// The chat so far.
    pub messages: Vec<Message>,
    /// The grammar of the completion; with `None` any text may be sampled.
    pub grammar: Option<Grammar>,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u64,
    /// The maximum number of completion tokens.
    pub max_tokens: usize,
}

/// A completion.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The completion's text, without the end token.
    pub text: String,
    /// The record of the call; it has one span, of the request's role.
    pub call: Call,
    /// The length of the text in bytes after each completion token, to cut spans: `ends[i]` counts the bytes through token i.
    pub ends: Vec<usize>,
}

/// A request for the log-probabilities of a completion given a prompt, with or without a grammar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// Prompt token ids.
    pub prompt_ids: Vec<u32>,
    /// Completion token ids.
    pub completion_ids: Vec<u32>,
    /// The grammar whose masks apply, if any.
    pub grammar: Option<Grammar>,
    /// Temperature of the distribution (0 stands for 1).
    pub temperature: f32,
}

/// The probes that prove an adapter's identity: completions, and the log-probabilities that the served model must give them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probes {
    /// The completions to score, without a grammar.
    pub requests: Vec<ScoreRequest>,
    /// The trainer's log-probabilities of the merged model, one list per request.
    pub expected: Vec<Vec<f32>>,
    /// The parent's log-probabilities, one list per request.
    pub parent: Vec<Vec<f32>>,
}

/// A model that generates, which every model server can do.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Generates one completion. Requests beyond what the engine computes at once wait their turn.
    async fn generate(&self, request: GenerateRequest) -> Result<Generated>;
    /// Returns the generation that answers now.
    fn generation(&self) -> Generation;
}

/// An engine that can also serve another generation without a restart: it scores completions, and swaps adapters in and out.
#[async_trait]
pub trait GenerationEngine: Engine {
    /// Computes the log-probability of each completion token, in nats.
    async fn score(&self, request: ScoreRequest) -> Result<Vec<f32>>;
    /// Loads the model with the adapter in `adapter`, proves it on the probes, and puts it into service. If that fails, the old generation
    /// keeps serving and the error says why.
    async fn swap(&self, adapter: &Path, probes: &Probes) -> Result<Generation>;
    /// Puts the base model without an adapter into service, as a rollback from the first generation does.
    async fn serve_base(&self) -> Result<Generation>;
}

/// The information that a policy may use for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The task.
    pub task: &'a Task,
    /// The plan in force (version 0 and empty before the first).
    pub plan: &'a Plan,
    /// Steps so far, oldest first.
    pub steps: &'a [Step],
    /// The current observation.
    pub observation: &'a Observation,
    /// The tools that can be called.
    pub tools: &'a [ToolForm],
    /// Whether the loop demands a revision, after a stall.
    pub stalled: bool,
    /// The messages of people to the agent during the run, oldest first.
    pub messages: &'a [String],
    /// Seed of this decision's sampling.
    pub seed: u64,
}

/// A policy's decision in one turn.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The revision of the plan, which is applied before the action.
    pub revision: Revision,
    /// The action.
    pub action: Action,
    /// The model calls that were made, in order.
    pub calls: Vec<Call>,
}

/// A policy's answer text.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// The model calls that were made.
    pub calls: Vec<Call>,
}

/// Decides what the agent does. The loop treats model policies, oracles and scripted policies alike.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Returns the policy's name (`adaplan`, `subgoal`, `frozen`, `react`, `oracle`, …).
    fn name(&self) -> &str;
    /// Makes the first plan, from the goal and the first observation; it is empty for a policy that does not plan.
    async fn plan(&self, context: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)>;
    /// Decides one turn.
    async fn turn(&self, context: Context<'_>) -> Result<Decision>;
    /// Writes the answer's text, from the episode.
    async fn answer(&self, context: Context<'_>) -> Result<Answered>;
}

/// The environment that the agent acts in: a browser on a site.
#[async_trait]
pub trait Environment: Send {
    /// Opens the task's start page.
    async fn reset(&mut self, task: &Task) -> Result<()>;
    /// Observes the page.
    async fn observe(&mut self) -> Result<Observation>;
    /// Carries out one browser action (never `call`, `answer` or `stop`). A failed action is an [`Outcome`], not an error; an action that
    /// the environment does not know is [`Outcome::unsupported`].
    async fn act(&mut self, action: &Action) -> Result<Outcome>;
    /// Returns a text that is no observation (a tool's result, an error) with the values of this environment's secrets replaced by their
    /// placeholders.
    fn scrubbed(&self, text: &str) -> String;
    /// Returns a PNG of the viewport, if the environment can draw one.
    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>>;
    /// Ends the session and all processes that it started.
    async fn close(&mut self) -> Result<()>;
}

/// A tool that the agent can call besides the browser.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Returns the tool's name and the JSON schema of its arguments.
    fn form(&self) -> ToolForm;
    /// Calls the tool; the next observation shows the returned text. The capability of `task` limits what the tool may reach.
    async fn call(&self, arguments: &serde_json::Value, task: &Task) -> Result<String>;
    /// Whether a call may have a side effect. A run without side effects may be repeated after a crash.
    fn changes(&self) -> bool {
        true
    }
}

/// Decides a milestone that has no check.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// Decides the milestone; a failed call is an error (the verdict is missing), never `False`.
    async fn verify(&self, milestone: &Milestone, observation: &Observation) -> Result<(Verdict, Vec<Call>)>;
}

/// Decides whether a finished episode did its task.
#[async_trait]
pub trait Checker: Send + Sync {
    /// Returns whether the task was done; `None` if that cannot be decided.
    async fn check(&self, episode: &Episode) -> Result<Option<bool>>;
}
