//! A call that is trained on, with its advantage and its reference scores.

use crate::Result;
use crate::losses::{Sample, correction};
use crate::recipes::policy::config::{ActorKind, PolicyConfig};
use crate::recipes::policy::rollout::ModelCall;

/// A call that is trained on.
pub(super) struct TrainedCall<'a> {
    /// The call.
    pub call: &'a ModelCall,
    /// The advantage of the call.
    pub advantage: f64,
    /// The advantage of each completion token, with token-level credit.
    pub token_advantages: Option<&'a [f64]>,
    /// Log-probabilities of the whole sequence under the policy at the start of the update; empty until the calls are scored.
    pub reference: Vec<f32>,
}

impl TrainedCall<'_> {
    /// Builds the loss's sample, with these log-probabilities of the whole sequence under the current policy.
    pub fn sample(&self, logprobs: Vec<f32>, config: &PolicyConfig) -> Result<Sample> {
        let call = self.call;
        let mask = call.padded(&call.trained, false);
        let old_logprobs = match config.actor {
            ActorKind::Likelihood => logprobs.clone(),
            ActorKind::Ratio | ActorKind::Squares => call.padded(&call.old_logprobs, 0.0),
        };
        let weights = match config.actor {
            // The policy did not sample what it imitates, so there is no sampler to correct for.
            ActorKind::Likelihood => mask.iter().map(|trained| f32::from(u8::from(*trained))).collect(),
            ActorKind::Ratio | ActorKind::Squares => correction(&config.correction, &mask, &self.reference, &old_logprobs)?,
        };
        let advantages = match self.token_advantages {
            Some(token_advantages) => call.padded(token_advantages, 0.0).into_iter().map(|advantage| advantage as f32).collect(),
            None => vec![self.advantage as f32; mask.len()],
        };
        Ok(Sample { mask, logprobs, old_logprobs, advantages, weights })
    }
}
