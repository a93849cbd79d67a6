//! Losses over log-probabilities, each with its derivative in every trained token's new log-probability.
//!
//! All losses are pure functions: the trainer scores the tokens, a loss turns the scores into weights, and the trainer's head applies the
//! weights. A trainer that minimises `Σ weight * -logprob` takes [`Loss::head_weights`]. An entropy bonus needs the whole distribution,
//! which the log-probabilities of sampled tokens do not contain, so the head computes it (`entropy_weights` of [`crate::Sequence`]).
//!
//! All log-probabilities refer to the distribution that was sampled from: logits divided by the temperature, without top-p.

mod config;
mod correction;
mod k3;
mod kl;
mod mira;
mod overlong;
mod policy;

pub use config::{LossConfig, Normalisation, Objective};
pub use correction::{Band, CorrectionConfig, Rule, correction};
pub use k3::k3;
pub use kl::{kl_loss, mean_kl, total_variation};
pub use mira::{Action, ActorLoss, MiraLossConfig, mira_loss};
pub use overlong::{OverlongConfig, overlong};
pub use policy::{clip_fraction, policy_loss};

use crate::{Error, Result};

/// The maximum absolute value of a log-ratio before it is exponentiated; beyond it the ratio is constant and has no gradient, as in verl.
const LOG_RATIO_LIMIT: f64 = 20.0;

/// One sampled sequence with its scores. All lists have one entry per token, and entries outside `mask` are ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Marks the tokens that the policy sampled and that are trained; prompts, observations and tool output are not.
    pub mask: Vec<bool>,
    /// Log-probabilities under the policy in training.
    pub logprobs: Vec<f32>,
    /// Log-probabilities under the policy at the start of the update.
    pub old_logprobs: Vec<f32>,
    /// The advantage of each token.
    pub advantages: Vec<f32>,
    /// Factors of the policy loss from [`correction`]; 1 for no correction.
    pub weights: Vec<f32>,
}

/// A loss over a batch with its derivatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// The value of the loss.
    pub value: f64,
    /// `[sequence][token]`: the derivative of the loss in the token's new log-probability; 0 outside the mask.
    pub derivatives: Vec<Vec<f32>>,
}

impl Loss {
    /// Creates a loss of 0 over sequences with these masks.
    fn zero<'a>(masks: impl Iterator<Item = &'a Vec<bool>>) -> Self {
        Self { value: 0.0, derivatives: masks.map(|mask| vec![0.0; mask.len()]).collect() }
    }

    /// Adds another loss over the same sequences.
    ///
    /// # Errors
    /// The two losses are over sequences of different lengths.
    pub fn plus(mut self, other: &Self) -> Result<Self> {
        let lengths = |loss: &Self| loss.derivatives.iter().map(Vec::len).collect::<Vec<_>>();
        if lengths(&self) != lengths(other) {
            return Err(Error::Batch { index: 0, problem: "the two losses are over different sequences".into() });
        }
        self.value += other.value;
        for (mine, theirs) in self.derivatives.iter_mut().flatten().zip(other.derivatives.iter().flatten()) {
            *mine += theirs;
        }
        Ok(self)
    }

    /// Returns the weights with which `Σ weight * -logprob` has the same gradient as this loss: the negated derivatives.
    ///
    /// The weights are normalised already; a trainer that divides by the sum of weights would undo that.
    pub fn head_weights(&self) -> Vec<Vec<f32>> {
        self.derivatives.iter().map(|derivatives| derivatives.iter().map(|d| -d).collect()).collect()
    }
}

/// Returns the positions of a mask that are trained.
fn trained_positions(mask: &[bool]) -> impl Iterator<Item = usize> + Clone + '_ {
    mask.iter().enumerate().filter(|(_, trained)| **trained).map(|(t, _)| t)
}

/// Refuses an empty batch, lists that differ in length from their mask, and trained tokens with numbers that are not finite.
fn check_lists<'a>(count: usize, lists: impl Fn(usize) -> (&'a [bool], Vec<(&'static str, &'a [f32])>)) -> Result<()> {
    if count == 0 {
        return Err(Error::Batch { index: 0, problem: "the batch is empty".into() });
    }
    for index in 0..count {
        let (mask, lists) = lists(index);
        for (name, list) in lists {
            let problem = if list.len() != mask.len() {
                format!("has {} {name} for {} tokens", list.len(), mask.len())
            } else if let Some(t) = trained_positions(mask).find(|t| !list[*t].is_finite()) {
                format!("has {} among its {name} at trained token {t}; leave the token out of the mask", list[t])
            } else {
                continue;
            };
            return Err(Error::Batch { index, problem });
        }
    }
    Ok(())
}

/// Applies [`check_lists`] to all lists of the samples.
fn check_samples(samples: &[Sample]) -> Result<()> {
    check_lists(samples.len(), |i| {
        let s = &samples[i];
        let lists = [
            ("log-probabilities", &s.logprobs),
            ("old log-probabilities", &s.old_logprobs),
            ("advantages", &s.advantages),
            ("weights", &s.weights),
        ];
        (&s.mask[..], lists.map(|(name, list)| (name, &list[..])).to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a sequence with these ratios to the old policy, in which every token is trained.
    pub fn sample(ratios: &[f64], advantage: f32) -> Sample {
        let n = ratios.len();
        Sample {
            mask: vec![true; n],
            logprobs: ratios.iter().map(|ratio| (ratio.ln() - 2.0) as f32).collect(),
            old_logprobs: vec![-2.0; n],
            advantages: vec![advantage; n],
            weights: vec![1.0; n],
        }
    }

    #[test]
    fn bad_samples_are_refused_and_untrained_tokens_may_hold_anything() {
        let mut s = sample(&[1.0, 1.1], 1.0);
        s.old_logprobs[1] = f32::NAN;
        let problem = check_samples(std::slice::from_ref(&s)).unwrap_err().to_string();
        assert!(problem.contains("NaN among its old log-probabilities at trained token 1"), "{problem}");
        s.mask[1] = false;
        let loss = policy_loss(&LossConfig::default(), &[s.clone()]).unwrap();
        assert!(loss.value.is_finite() && loss.derivatives == [[-1.0, 0.0]]);
        s.weights.pop();
        let problem = check_samples(&[sample(&[1.0], 1.0), s]).unwrap_err().to_string();
        assert_eq!(problem, "sequence 1 of the batch: has 1 weights for 2 tokens");
        assert!(check_samples(&[]).is_err());
    }

    #[test]
    fn losses_over_the_same_sequences_add_up() {
        let loss = Loss { value: 1.0, derivatives: vec![vec![0.5, 0.0]] };
        let sum = loss.clone().plus(&loss).unwrap();
        assert_eq!((sum.value, sum.head_weights()), (2.0, vec![vec![-1.0, 0.0]]));
        assert!(loss.plus(&Loss { value: 1.0, derivatives: vec![vec![0.5]] }).is_err());
    }
}
