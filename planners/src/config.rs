//! Section `policy` of the configuration.

use std::path::PathBuf;

use milepost_runtime::action::Naming;
use serde::{Deserialize, Serialize};

/// The planner that drives a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannerKind {
    /// An adaptive global plan, which may be revised at every turn (AdaPlan, 2508.00344 section 2).
    #[default]
    Adaplan,
    /// A plan that may be revised only on a stall, which is a repeated action, or a check that failed for too many turns (MiRA, 2603.19685
    /// section 3.2).
    Subgoal,
    /// A plan that is never revised.
    Frozen,
    /// No plan (ReAct): the control of every experiment on planning.
    React,
}

impl PlannerKind {
    /// All planners.
    pub const ALL: [Self; 4] = [Self::Adaplan, Self::Subgoal, Self::Frozen, Self::React];

    /// Returns the planner's name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Adaplan => "adaplan",
            Self::Subgoal => "subgoal",
            Self::Frozen => "frozen",
            Self::React => "react",
        }
    }

    /// Returns whether the planner works from a plan.
    pub fn plans(self) -> bool {
        self != Self::React
    }

    /// Returns whether the plan may be revised at a turn.
    pub fn may_revise(self, stalled: bool) -> bool {
        match self {
            Self::Adaplan => true,
            Self::Subgoal => stalled,
            Self::Frozen | Self::React => false,
        }
    }
}

impl std::str::FromStr for PlannerKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.word() == text)
            .ok_or_else(|| format!("{text:?} is no planner; use adaplan, subgoal, frozen or react"))
    }
}

/// Whether revision and action come from one model call or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviseMode {
    /// One call: revision, then action. Without a prefix cache a second call would read the whole prompt again.
    #[default]
    Joint,
    /// Two calls: the planner revises, then the executor acts.
    Separate,
}

/// How much the prompts explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptProfile {
    /// Terse, as the bundled seed model was trained.
    #[default]
    Seed,
    /// With rules and formats, for general models.
    Instruct,
}

impl PromptProfile {
    /// Returns how actions name their element under this profile.
    pub fn naming(self) -> Naming {
        match self {
            Self::Seed => Naming::NameAndId,
            Self::Instruct => Naming::Id,
        }
    }

    /// Returns the profile's name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Instruct => "instruct",
        }
    }
}

/// The settings of section `policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlannersConfig {
    /// The planner that drives a task, unless the task names another.
    pub planner: PlannerKind,
    /// Whether revision and action come from one call or two.
    pub revise: ReviseMode,
    /// How much the prompts explain.
    pub prompt_profile: PromptProfile,
    /// A directory of prompt templates (`plan.jinja`, `turn.jinja`, `answer.jinja`, `verify.jinja`) that replace the profile's built-in
    /// ones; a missing file leaves the built-in template.
    pub prompts: Option<PathBuf>,
    /// Whether a grammar restricts completions to those that can be parsed and that refer to existing elements, options and tools. Without
    /// it, a completion that cannot be parsed ends the episode as malformed.
    pub grammar: bool,
    /// The sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// The maximum number of page lines in a prompt.
    pub page_lines: usize,
    /// The number of plan steps shown from the cursor on; the others are folded.
    pub plan_window: usize,
    /// The number of past actions shown (`react` shows three times as many, since it has no plan).
    pub history: usize,
    /// The maximum number of tokens of a plan or a revision.
    pub plan_tokens: usize,
    /// The maximum number of tokens of an action or an answer.
    pub action_tokens: usize,
    /// Who writes the answer's text: `summarizer`, or `executor` for the end-to-end baseline.
    pub answer_by: milepost_runtime::action::AnswerText,
}

impl Default for PlannersConfig {
    fn default() -> Self {
        Self {
            planner: PlannerKind::Adaplan,
            revise: ReviseMode::Joint,
            prompt_profile: PromptProfile::Seed,
            prompts: None,
            grammar: true,
            temperature: 0.0,
            page_lines: 60,
            plan_window: 4,
            history: 3,
            plan_tokens: 1000,
            action_tokens: 96,
            answer_by: milepost_runtime::action::AnswerText::Summarizer,
        }
    }
}
