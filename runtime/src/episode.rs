//! What happened: steps, outcomes, why it stopped.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::call::Call;
use crate::observation::Observation;
use crate::plan::{Plan, Revision};
use crate::task::Task;

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it was carried out.
    pub ok: bool,
    /// Why not (an `invalid:` prefix: it could not exist on this page).
    pub error: Option<String>,
    /// What a tool returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

impl Outcome {
    /// It was carried out.
    pub fn done() -> Self {
        Self { ok: true, error: None, result: None }
    }

    /// It was not.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { ok: false, error: Some(error.into()), result: None }
    }
}

/// Wall times of one step, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Observation.
    pub observe_ms: f64,
    /// Milestone checks and verifier calls.
    pub verify_ms: f64,
    /// The policy (the model).
    pub decide_ms: f64,
    /// The action.
    pub act_ms: f64,
    /// Writing the step down (of the step before: a step cannot record its own).
    pub record_ms: f64,
}

/// One turn as recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Turn number, from 0.
    pub turn: u32,
    /// What was seen.
    pub observation: Observation,
    /// What became of the plan before the action.
    pub revision: Revision,
    /// The plan's version after the revision, 0 without one.
    pub plan_version: u32,
    /// The plan step (index) that the action served.
    pub cursor: usize,
    /// What was done.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// Model calls of this turn.
    pub calls: Vec<Call>,
    /// Milestones (plan step indices) that became true when this turn looked.
    pub reached: Vec<usize>,
    /// Wall times.
    pub timing: Timing,
    /// Screenshot file, relative to the data directory.
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
    /// The step limit.
    StepLimit,
    /// The time limit.
    TimeLimit,
    /// The same action on the same page, or no new milestone, also after a forced revision.
    NoProgress(String),
    /// An action outside the capability: a person must decide.
    NeedsApproval(String),
    /// Somebody cancelled it.
    Cancelled,
    /// What the model wrote is no plan, turn or action: possible only without a grammar, or where its tokens ran out.
    Malformed(String),
    /// Browser, model or store failed.
    Failed(String),
}

impl Stop {
    /// The word of the stop reason.
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

    /// The reason in words, where there is one.
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

/// A whole run of one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Episode {
    /// Unique id (UUID v7).
    pub id: String,
    /// What was asked.
    pub task: Task,
    /// Name of the policy.
    pub policy: String,
    /// Id of the generation that served it.
    pub generation: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it runs or where the process died.
    pub ended_at: Option<DateTime<Utc>>,
    /// Plan versions, oldest first, each as it stood when the next replaced it or the episode ended.
    pub plans: Vec<Plan>,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Calls outside the steps: first plan, verifier, summarizer.
    pub calls: Vec<Call>,
    /// Why it ended.
    pub stop: Option<Stop>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The last page, seen after the last action.
    pub last_observation: Option<Observation>,
    /// Verified outcome: by a checker, a person or the caller's own check; `None` where nobody verified it.
    pub success: Option<bool>,
}

impl Episode {
    /// An episode that begins now.
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

    /// The plan in force.
    pub fn plan(&self) -> Option<&Plan> {
        self.plans.last()
    }

    /// All model calls in the order they were made.
    pub fn all_calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().chain(self.steps.iter().flat_map(|step| step.calls.iter()))
    }
}
