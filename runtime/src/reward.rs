//! Rewards as data: the terms of an episode's reward, and the judges that decided them.

use serde::{Deserialize, Serialize};

/// The judge that gave a verdict, and how many of its samples could be parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeRef {
    /// Id of the model's generation, or the name of a judge that is no model.
    pub model: String,
    /// Hash of the prompt template; empty for a judge that is no model.
    pub prompt_hash: String,
    /// Number of samples that were requested.
    pub samples: u32,
    /// Number of samples that gave a verdict.
    pub parsed: u32,
    /// Number of samples that failed; they are missing, never zero.
    pub failed: u32,
}

/// One named part of a reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardTerm {
    /// The term's name, which says what is rewarded.
    pub name: String,
    /// The index of the step that earned it; `None` for the episode as a whole.
    pub step: Option<u32>,
    /// The value on the scale of its source.
    pub raw: f64,
    /// The value on the common scale: 1 is the best, a penalty is negative.
    pub normalised: f64,
    /// The factor with which it enters the reward.
    pub weight: f64,
    /// The judge, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeRef>,
}

impl RewardTerm {
    /// Returns the term's contribution to the reward.
    pub fn value(&self) -> f64 {
        self.normalised * self.weight
    }
}
