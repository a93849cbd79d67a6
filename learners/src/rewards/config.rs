//! The weights of the rewards, and the presets of the recipes.

use milepost_runtime::text::squash;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the adherence of single steps is aggregated over an episode, which PilotRL (2508.00344) does not specify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepAggregation {
    /// The mean over the steps that were judged, so that the weight does not depend on the episode's length.
    #[default]
    Mean,
    /// The last step that was judged.
    Last,
    /// The sum over all steps, each with the whole weight.
    Sum,
}

/// How a potential becomes a reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shaping {
    /// `Φ(s') - Φ(s)`, as MiRA's paper prints it (2603.19685): a bonus of at most its weight per episode.
    #[default]
    Difference,
    /// `γ Φ(s') - Φ(s)` with a potential of 0 at the end of the episode: it does not change which policy is optimal (Ng, Harada and Russell
    /// 1999).
    Invariant {
        /// The discount factor, which must equal that of the returns.
        gamma: f64,
    },
}

/// When an action counts as equal to the expert's, which 2509.20616 does not specify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The texts are identical.
    Exact,
    /// The texts are equal except for case and white space.
    #[default]
    Folded,
}

impl Match {
    /// Returns true if the two texts count as equal.
    pub fn same(self, one: &str, other: &str) -> bool {
        match self {
            Self::Exact => one == other,
            Self::Folded => squash(one).to_lowercase() == squash(other).to_lowercase(),
        }
    }
}

/// The weight of each reward (0 turns it off), and the constants that the papers leave open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// The verified outcome, 0 or 1.
    pub outcome: f64,
    /// Whether the model's output could be parsed, 0 or 1 (PilotRL, 2508.00344, equations 2 to 4; all its weights are equal here).
    pub format: f64,
    /// How well the actions follow the plan, 0 to 2, normalised as x / 2 (PilotRL).
    pub adherence: f64,
    /// How the adherence of single steps is aggregated over an episode.
    pub adherence_over: StepAggregation,
    /// End-to-end quality, 0 to 2, normalised as x / 2 (PilotRL).
    pub end_to_end: f64,
    /// The plan's three scores, 1 to 5 each, normalised as (mean - 1) / 4 (PilotRL).
    pub plan_quality: f64,
    /// The share of the judge's samples that find the actions complete (RLTR, 2508.19598, section 3.2).
    pub completeness: f64,
    /// λ: the penalty for each action that repeats the previous one (RLTR, section 3.3; its value is not published).
    pub repetition: f64,
    /// μ: the penalty for each action that is invalid or fails (RLTR, section 3.3; its value is not published).
    pub error: f64,
    /// The whole reward if the model's output cannot be parsed; `null` leaves it to `format` (RLTR, algorithm 1: -1).
    pub malformed: Option<f64>,
    /// The minimum reward of output that can be parsed: without it a long series of errors would be worse than malformed output.
    pub floor: Option<f64>,
    /// Whether the action is the expert's, 0 or 1 per step, averaged over the steps (2509.20616, section 3).
    pub expert_match: f64,
    /// When an action counts as equal to the expert's.
    pub matching: Match,
    /// α: progress towards the milestones, step by step (MiRA, 2603.19685: 0.3).
    pub potential: f64,
    /// How the progress becomes a reward.
    pub shaping: Shaping,
    /// The share of the milestones that a failed episode reached, given at its end; a success gets none.
    pub credit: f64,
    /// The maximum of that share that counts, so that no failure is worth as much as a success.
    pub credit_cap: f64,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            outcome: 1.0,
            format: 0.0,
            adherence: 0.0,
            adherence_over: StepAggregation::default(),
            end_to_end: 0.0,
            plan_quality: 0.0,
            completeness: 0.0,
            repetition: 0.0,
            error: 0.0,
            malformed: None,
            floor: None,
            expert_match: 0.0,
            matching: Match::default(),
            potential: 0.0,
            shaping: Shaping::default(),
            credit: 0.0,
            credit_cap: 0.5,
        }
    }
}

/// A named set of reward weights, one per recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The executor's stage: format, adherence, end to end (PilotRL, 2508.00344, equation 2).
    Pilotrl1,
    /// The planner's stage: format, end to end, plan quality (PilotRL, equation 3).
    Pilotrl2,
    /// The joint stage: format, end to end (PilotRL, equation 4).
    Pilotrl3,
    /// Completeness and rules (RLTR, 2508.19598, algorithm 1).
    Rltr,
    /// RLTR's end-to-end baseline: the rules of [`Self::Rltr`] with the outcome instead of completeness.
    RltrEndToEnd,
    /// Outcome and milestone potential (MiRA, 2603.19685).
    Mira,
    /// Agreement with the expert's action (2509.20616).
    SingleTurn,
    /// The outcome alone.
    Outcome,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 8] =
        [Self::Pilotrl1, Self::Pilotrl2, Self::Pilotrl3, Self::Rltr, Self::RltrEndToEnd, Self::Mira, Self::SingleTurn, Self::Outcome];

    /// Returns the reward weights of the preset.
    pub fn config(self) -> RewardConfig {
        let outcome = RewardConfig::default();
        let none = RewardConfig { outcome: 0.0, ..outcome.clone() };
        // λ and μ are those of a third-party implementation of RLTR; the paper does not give them.
        let ruled = RewardConfig { repetition: 0.1, error: 0.2, malformed: Some(-1.0), floor: Some(-1.0), ..none.clone() };
        let joint = RewardConfig { format: 1.0, end_to_end: 1.0, ..none.clone() };
        match self {
            Self::Pilotrl1 => RewardConfig { adherence: 1.0, ..joint },
            Self::Pilotrl2 => RewardConfig { plan_quality: 1.0, ..joint },
            Self::Pilotrl3 => joint,
            Self::Rltr => RewardConfig { completeness: 1.0, ..ruled },
            Self::RltrEndToEnd => RewardConfig { outcome: 1.0, ..ruled },
            Self::Mira => RewardConfig { potential: 0.3, ..outcome },
            Self::SingleTurn => RewardConfig { expert_match: 1.0, ..none },
            Self::Outcome => outcome,
        }
    }
}

impl RewardConfig {
    /// Returns each weight with its key, and whether the term needs a suite's ground truth.
    fn weights(&self) -> [(&'static str, f64, bool); 11] {
        [
            ("outcome", self.outcome, false),
            ("format", self.format, false),
            ("adherence", self.adherence, true),
            ("end_to_end", self.end_to_end, true),
            ("plan_quality", self.plan_quality, true),
            ("completeness", self.completeness, true),
            ("repetition", self.repetition, false),
            ("error", self.error, false),
            ("expert_match", self.expert_match, false),
            ("potential", self.potential, true),
            ("credit", self.credit, true),
        ]
    }

    /// Returns the key of the first nonzero weight whose term needs a suite's ground truth: any but the outcome, the format and the rules
    /// on single steps.
    pub fn needs_the_suite(&self) -> Option<&'static str> {
        self.weights().into_iter().find(|(_, weight, of_suite)| *of_suite && *weight > 0.0).map(|(key, ..)| key)
    }

    /// Refuses invalid weights and constants.
    ///
    /// # Errors
    /// A weight is negative or not finite, or a constant lies outside 0 to 1; the error names the key.
    pub fn check(&self) -> Result<()> {
        let wrong = self.weights().into_iter().find(|(_, weight, _)| !(weight.is_finite() && *weight >= 0.0));
        if let Some((key, weight, _)) = wrong {
            return Err(Error::Config { key, problem: format!("{weight} is no weight; give a number from 0 up") });
        }
        let gamma = match self.shaping {
            Shaping::Difference => 1.0,
            Shaping::Invariant { gamma } => gamma,
        };
        for (key, share) in [("credit_cap", self.credit_cap), ("gamma", gamma)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::Config { key, problem: format!("{share} does not lie between 0 and 1") });
            }
        }
        Ok(())
    }
}
