//! Section `policy` of the configuration.

use milepost_runtime::action::Naming;
use serde::{Deserialize, Serialize};

/// Which planner drives a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannerKind {
    /// Adaptive global plan: may be revised at every turn (AdaPlan, 2508.00344 section 2).
    #[default]
    Adaplan,
    /// The plan may be revised on a stall only: a repeated action, or a check that was missed for too many turns (MiRA, 2603.19685
    /// section 3.2).
    Subgoal,
    /// The first plan stays as it is.
    Frozen,
    /// No plan: the control for every claim (ReAct).
    React,
}

impl PlannerKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Adaplan, Self::Subgoal, Self::Frozen, Self::React];

    /// The kind's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Adaplan => "adaplan",
            Self::Subgoal => "subgoal",
            Self::Frozen => "frozen",
            Self::React => "react",
        }
    }

    /// Whether it works from a plan.
    pub fn plans(self) -> bool {
        self != Self::React
    }

    /// Whether the plan may be revised at a turn.
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
    /// One call: revision, then action. On a CPU there is no prefix cache, so a second call pays the whole prompt again.
    #[default]
    Joint,
    /// Two calls.
    Separate,
}

/// How much a prompt explains.
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
    /// How actions name their element under this profile.
    pub fn naming(self) -> Naming {
        match self {
            Self::Seed => Naming::NameAndId,
            Self::Instruct => Naming::Id,
        }
    }

    /// The profile's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Instruct => "instruct",
        }
    }
}

/// Section `policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlannersConfig {
    /// Which planner drives a task, unless the task says otherwise.
    pub planner: PlannerKind,
    /// Whether revision and action come from one call or two.
    pub revise: ReviseMode,
    /// How much the prompts explain.
    pub prompt_profile: PromptProfile,
    /// Hold the model to what can be read and exists now; without it what cannot be read ends the episode as malformed.
    pub grammar: bool,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Most page lines in a prompt.
    pub page_lines: usize,
    /// Plan steps shown from the cursor on; the others are folded.
    pub plan_window: usize,
    /// Past actions shown (`react` shows three times as many, since it has no plan).
    pub history: usize,
    /// Most tokens of a plan or a revision.
    pub plan_tokens: usize,
    /// Most tokens of an action or an answer.
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
