//! Episodes: their steps and outcomes, and why they ended.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::call::Call;
use crate::check::UNDECIDED;
use crate::observation::Observation;
use crate::plan::{Plan, Revision};
use crate::task::Task;

/// The outcome of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the action was carried out.
    pub ok: bool,
    /// Why it was not carried out. The prefix `invalid:` says that the action was impossible on this page.
    pub error: Option<String>,
    /// The result of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

impl Outcome {
    /// The outcome of an action that was carried out.
    pub fn done() -> Self {
        Self { ok: true, error: None, result: None }
    }

    /// The outcome of an action that was not carried out, for this reason.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { ok: false, error: Some(error.into()), result: None }
    }

    /// The outcome of an action that the environment has no way to carry out.
    pub fn unsupported(action: &Action) -> Self {
        Self::failed(format!("invalid: `{action}` is not for the browser"))
    }
}

/// Wall times of the phases of a step, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Observing the page.
    pub observe_ms: f64,
    /// Verifying milestones, by checks and verifier calls.
    pub verify_ms: f64,
    /// Deciding: the policy's model calls.
    pub decide_ms: f64,
    /// Carrying out the action.
    pub act_ms: f64,
    /// Recording the previous step; a step cannot record how long its own recording takes.
    pub record_ms: f64,
}

/// One turn as recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Turn number, from 0.
    pub turn: u32,
    /// The observation before the decision.
    pub observation: Observation,
    /// The revision of the plan, which was applied before the action.
    pub revision: Revision,
    /// The plan's version after the revision; 0 without a plan.
    pub plan_version: u32,
    /// Index of the plan step under which the action was taken.
    pub cursor: usize,
    /// The action.
    pub action: Action,
    /// The outcome of the action.
    pub outcome: Outcome,
    /// The model calls of this turn.
    pub calls: Vec<Call>,
    /// Indices of the plan steps whose milestones this turn's observation showed as true.
    pub reached: Vec<usize>,
    /// Wall times.
    pub timing: Timing,
    /// The screenshot's file, relative to the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
}

/// Why an episode ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "reason")]
pub enum Stop {
    /// The agent answered.
    Answered,
    /// The agent gave up.
    GaveUp(String),
    /// The step limit was reached.
    StepLimit,
    /// The time limit was reached.
    TimeLimit,
    /// The same action was repeated on the same page, or no new milestone was reached, even after a forced revision.
    NoProgress(String),
    /// An action is outside the capability, and a person must decide.
    NeedsApproval(String),
    /// Somebody cancelled the run.
    Cancelled,
    /// The model's output is no plan, turn or action: possible only without a grammar, or if the call ran out of tokens.
    Malformed(String),
    /// The browser, the model or a tool failed.
    Failed(String),
}

impl Stop {
    /// Returns the name of the stop reason.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::GaveUp(_) => "gave_up",
            Self::StepLimit => "step_limit",
            Self::TimeLimit => "time_limit",
            Self::NoProgress(_) => "no_progress",
            Self::NeedsApproval(_) => "needs_approval",
            Self::Cancelled => "cancelled",
            Self::Malformed(_) => "malformed",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns whether a failure of browser, model or store, or a cancellation ended the episode, so that its end says nothing about the
    /// policy.
    pub fn ended_from_outside(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Cancelled)
    }

    /// Returns the reason in words, if there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::GaveUp(reason)
            | Self::NoProgress(reason)
            | Self::NeedsApproval(reason)
            | Self::Malformed(reason)
            | Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// One run of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Episode {
    /// Unique id (UUID v7).
    pub id: String,
    /// The task.
    pub task: Task,
    /// Name of the policy.
    pub policy: String,
    /// Id of the generation that served it.
    pub generation: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it runs or if the process died.
    pub ended_at: Option<DateTime<Utc>>,
    /// The plan versions, oldest first, each as it stood when the next one replaced it or the episode ended.
    pub plans: Vec<Plan>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Model calls outside the steps: first plan, verifier, summarizer.
    pub calls: Vec<Call>,
    /// Why it ended.
    pub stop: Option<Stop>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The last observation, made after the last action.
    pub last_observation: Option<Observation>,
    /// The outcome as a checker, a person or the caller's own check verified it; `None` if none of them did or the check could not be
    /// decided.
    pub success: Option<bool>,
}

impl Episode {
    /// Makes an episode that starts now.
    pub fn begin(task: Task, policy: &str, generation: &str) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            task,
            policy: policy.to_owned(),
            generation: generation.to_owned(),
            started_at: Utc::now(),
            ended_at: None,
            plans: Vec::new(),
            steps: Vec::new(),
            calls: Vec::new(),
            stop: None,
            answer: None,
            last_observation: None,
            success: None,
        }
    }

    /// Returns the plan in force.
    pub fn plan(&self) -> Option<&Plan> {
        self.plans.last()
    }

    /// Returns why the caller's own check of an answered episode could not be decided; `None` if it was decided or does not apply.
    pub fn undecided_check(&self) -> Option<&'static str> {
        let answered = self.stop == Some(Stop::Answered) && self.task.check.is_some();
        (answered && self.success.is_none()).then_some(UNDECIDED)
    }

    /// Returns all model calls: those outside the steps, then those of the steps in order.
    pub fn all_calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().chain(self.steps.iter().flat_map(|step| step.calls.iter()))
    }
}
