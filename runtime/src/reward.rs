//! Rewards as data: what an episode earned, term by term, and who judged it.

use serde::{Deserialize, Serialize};

/// Which judge gave a verdict, and how many of its samples could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeRef {
    /// The model's generation, or the name of a judge that is no model.
    pub model: String,
    /// Hash of the prompt template; empty for a judge that is no model.
    pub prompt_hash: String,
    /// Samples that were asked for.
    pub samples: u32,
    /// Samples that gave a verdict.
    pub parsed: u32,
    /// Samples that failed: missing, never zero.
    pub failed: u32,
}

/// One named part of a reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardTerm {
    /// What is rewarded.
    pub name: String,
    /// The step (index) that earned it; `None`: the episode as a whole.
    pub step: Option<u32>,
    /// As it was judged, on the scale of its source.
    pub raw: f64,
    /// On the common scale: 1 is the best there is, a penalty is negative.
    pub normalised: f64,
    /// What it counts.
    pub weight: f64,
    /// Who judged it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeRef>,
}

impl RewardTerm {
    /// What it adds to the reward.
    pub fn value(&self) -> f64 {
        self.normalised * self.weight
    }
}
