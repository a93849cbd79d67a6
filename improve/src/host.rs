//! The traits through which the program injects the suite of tasks, the models, and the prompts of their policies into the improvement loop.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::{AnswerText, Naming};
use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{
    Action, Context, Episode, EpisodeStore, Generation, GenerationEngine, Limits, Message, Observation, Policy, Revision, Source, Tool,
    Verdicts, Verifier,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::phases::TaskKey;

/// Where the episodes of a suite run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentKind {
    /// Real Chromium over loopback.
    #[default]
    Browser,
    /// The script-free reader within the process: the same observations, many times faster.
    Plain,
}

impl EnvironmentKind {
    /// Returns the name in the configuration and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Plain => "plain",
        }
    }
}

/// A template of the suite; its tasks differ only in their seed.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateInfo {
    /// The template's id.
    pub id: String,
    /// The site that the tasks are on.
    pub site: String,
    /// The name of the level.
    pub level: String,
    /// The rank of the level; a higher rank is harder.
    pub level_rank: usize,
    /// Whether the template is kept out of all training and gating.
    pub held_out: bool,
}

/// A shared [`TemplateInfo`].
pub type Template = Arc<TemplateInfo>;

/// One episode to play: a task, and the seed of the policy's sampling.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The task's template.
    pub template: Template,
    /// The task's seed.
    pub seed: u64,
    /// The seed of the policy's sampling.
    pub sampling: u64,
}

impl Assignment {
    /// Returns the task's name, which is its template and seed. The episodes of one task form a group.
    pub fn task(&self) -> String {
        format!("{} {}", self.template.id, self.seed)
    }

    /// Returns the task's key.
    pub fn key(&self) -> TaskKey {
        TaskKey { template: self.template.id.clone(), seed: self.seed }
    }
}

/// How a played episode is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// By the checker: whether its task was solved.
    Outcome,
    /// By the checker and by the suite's ground truth on all questions.
    GroundTruth,
}

/// How an episode of a suite is played.
pub struct PlayRequest<'a> {
    /// The policy that acts; `None` lets the suite's oracle act.
    pub policy: Option<&'a dyn Policy>,
    /// Decides milestones that have no check.
    pub verifier: Option<&'a dyn Verifier>,
    /// The store that the episode is written to.
    pub store: &'a dyn EpisodeStore,
    /// The id of the generation that acts.
    pub generation: String,
    /// The limits of the episode.
    pub limits: Limits,
    /// How the episode is judged afterwards.
    pub judging: Judging,
    /// The token that cancels the episode.
    pub cancel: CancellationToken,
}

/// A played episode.
pub struct Played {
    /// The episode.
    pub episode: Episode,
    /// Whether the checker found the task solved.
    pub solved: bool,
    /// The verdicts of the suite's ground truth; empty if the episode was judged by its outcome alone.
    pub verdicts: Verdicts,
}

/// An open environment in which episodes of a suite are played one after another.
#[async_trait]
pub trait SuiteSession: Send {
    /// Plays one task and writes the checker's verdict into the store.
    ///
    /// # Errors
    /// The episode cannot be played or written.
    async fn play(&mut self, assignment: &Assignment, request: PlayRequest<'_>) -> Result<Played>;

    /// Closes the session and the browser that it started.
    ///
    /// # Errors
    /// The browser cannot be closed cleanly.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// A suite of tasks with checkers and oracles.
#[async_trait]
pub trait TaskSuite: Send + Sync {
    /// Returns all templates, including the held-out ones.
    fn templates(&self) -> Vec<Template>;

    /// Returns the oracle's policy for a task.
    ///
    /// # Errors
    /// The suite does not have the template.
    fn oracle(&self, assignment: &Assignment) -> Result<Box<dyn Policy>>;

    /// Returns the source of a task: its template, seed and split, which decide whether it may be trained on.
    ///
    /// # Errors
    /// The suite does not have the template.
    fn source(&self, assignment: &Assignment) -> Result<Source>;

    /// Opens an environment of this kind.
    ///
    /// # Errors
    /// The browser cannot be started.
    async fn open(&self, environment: EnvironmentKind) -> Result<Box<dyn SuiteSession>>;
}

/// How a policy samples; everything else is given by the program's configuration.
#[derive(Clone, Copy, Debug)]
pub struct PolicySampling {
    /// The sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// The role that writes the answer's text; `None` leaves that to the configuration.
    pub answer_by: Option<AnswerText>,
}

/// A loaded model, whose adapter has passed its probes.
pub trait LoadedModel: Send + Sync {
    /// Returns the model's engine.
    fn engine(&self) -> &dyn GenerationEngine;

    /// Creates a policy on this model with this sampling.
    fn policy(&self, sampling: PolicySampling) -> Box<dyn Policy>;

    /// Returns the verifier that decides milestones without a check.
    fn verifier(&self) -> &dyn Verifier;
}

/// Loads models.
#[async_trait]
pub trait ModelLoader: Send + Sync {
    /// Loads the configured model with this adapter, and proves the adapter on its probes.
    ///
    /// # Errors
    /// The model or adapter is missing, or the adapter fails its proof.
    async fn load(&self, adapter: AdapterChoice) -> Result<Arc<dyn LoadedModel>>;

    /// Returns the generation of the configured base without loading it.
    ///
    /// # Errors
    /// The model is missing or incomplete.
    fn base(&self) -> Result<Generation>;
}

/// Whether a turn is decided with a plan in the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planning {
    /// With the plan in the prompt and its revision in the completion.
    Planned,
    /// Without a plan.
    Unplanned,
}

/// Renders prompts and completions as the model policies do.
pub trait PromptWriter: Send + Sync {
    /// Returns how an action names its element.
    fn naming(&self) -> Naming;

    /// Returns the number of page lines that prompts hold by default.
    fn page_lines(&self) -> usize;

    /// Returns whether the configured planner works from a plan.
    fn planning(&self) -> Planning;

    /// Returns whether a turn of the configured planner may take two model calls, one for the revision and one for the action.
    fn asks_twice(&self) -> bool;

    /// Renders the prompt of the first plan.
    ///
    /// # Errors
    /// A template cannot be filled.
    fn plan(&self, context: Context<'_>) -> Result<Vec<Message>>;

    /// Renders the prompt of a turn.
    ///
    /// # Errors
    /// A template cannot be filled.
    fn turn(&self, context: Context<'_>, planning: Planning) -> Result<Vec<Message>>;

    /// Renders the prompt of the answer.
    ///
    /// # Errors
    /// A template cannot be filled.
    fn answer(&self, context: Context<'_>) -> Result<Vec<Message>>;

    /// Writes the completion of a turn as the model should write it.
    fn turn_completion(&self, revision: &Revision, action: &Action, observation: &Observation, planning: Planning) -> String;
}

/// Everything that the program injects into the loop.
#[derive(Clone)]
pub struct Host {
    /// The suite.
    pub suite: Arc<dyn TaskSuite>,
    /// The models.
    pub models: Arc<dyn ModelLoader>,
    /// The prompts.
    pub prompts: Arc<dyn PromptWriter>,
    /// The tools beside the browser.
    pub tools: Vec<Arc<dyn Tool>>,
    /// The path of this program, which runs an update as a process of its own.
    pub program: PathBuf,
}
