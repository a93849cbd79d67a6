//! The recipes by which a round can learn.

use serde::{Deserialize, Serialize};

/// The recipe by which a round learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The outcome alone, compared within groups of one task (GRPO).
    Outcome,
    /// The outcome, and steps compared with steps from the same state (GiGPO, 2505.10978).
    #[default]
    Gigpo,
    /// Three chained stages: adherence, plan quality, joint (PilotRL, 2508.00344).
    Pilotrl,
    /// Planner and executor alone, on completeness (RLTR, 2508.19598).
    Rltr,
    /// RLTR's baseline: one reward, on the answer, which the executor writes.
    RltrEndToEnd,
    /// Milestone potential, value critic, squared log-ratios (MiRA, 2603.19685).
    Mira,
    /// One expert state at a time: imitation first, then exact match within groups (2509.20616).
    SingleTurn,
    /// Successes alone, by likelihood: the filtered behaviour cloning that the papers compare with.
    Successes,
}

impl std::str::FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|recipe| recipe.word() == text)
            .ok_or_else(|| format!("{text:?} is no recipe; use one of {}", Self::ALL.map(Self::word).join(", ")))
    }
}

impl Recipe {
    /// All recipes.
    pub const ALL: [Self; 8] =
        [Self::Outcome, Self::Gigpo, Self::Pilotrl, Self::Rltr, Self::RltrEndToEnd, Self::Mira, Self::SingleTurn, Self::Successes];

    /// Returns a short description for people.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Outcome => "The outcome alone, compared within groups of one task (GRPO)",
            Self::Gigpo => "The outcome, and steps compared with steps from the same state (GiGPO, 2505.10978)",
            Self::Pilotrl => "Three chained stages: adherence, plan quality, joint (PilotRL, 2508.00344)",
            Self::Rltr => "Planner and executor alone, on completeness (RLTR, 2508.19598)",
            Self::RltrEndToEnd => "RLTR's baseline: one reward, on the answer, which the executor writes",
            Self::Mira => "Milestone potential, value critic, squared log-ratios (MiRA, 2603.19685)",
            Self::SingleTurn => "One expert state at a time: imitation first, then exact match within groups (2509.20616)",
            Self::Successes => "Successes alone, by likelihood: the filtered behaviour cloning that the papers compare with",
        }
    }

    /// Returns the recipe's name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Gigpo => "gigpo",
            Self::Pilotrl => "pilotrl",
            Self::Rltr => "rltr",
            Self::RltrEndToEnd => "rltr_end_to_end",
            Self::Mira => "mira",
            Self::SingleTurn => "single_turn",
            Self::Successes => "successes",
        }
    }

    /// Returns whether a round continues from the candidate of the last round even if that candidate is not in service, because the stages of
    /// such a recipe are one training.
    pub fn chains(self) -> bool {
        matches!(self, Self::Pilotrl | Self::SingleTurn)
    }

    /// Returns whether the recipe needs verdicts that only the bundled suite can give, beyond the outcome of an episode.
    pub fn needs_the_suite(self) -> bool {
        !matches!(self, Self::Outcome | Self::Gigpo | Self::Successes | Self::SingleTurn)
    }
}
