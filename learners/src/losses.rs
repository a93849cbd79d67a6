//! Losses over log-probabilities, each with its derivative in every trained token's new log-probability.
//!
//! All are pure: the trainer scores the tokens, a loss turns the scores into weights, and the trainer's head applies them. A trainer
//! that minimises `Σ weight * -logprob` takes [`Loss::head_weights`]. An entropy bonus needs the whole distribution, which
//! log-probabilities of sampled tokens do not tell: it is the head's to compute (`entropy_weights` of [`crate::Sequence`]).
//!
//! Log-probabilities are of the distribution that was sampled from: logits divided by the temperature, and no top-p.

mod config;
mod correction;
mod kl;
mod mira;
mod overlong;
mod policy;

pub use config::{LossConfig, Normalisation, Objective};
pub use correction::{Band, CorrectionConfig, Rule, correction};
pub use kl::{k3, kl_loss, mean_kl, moved};
pub use mira::{Action, ActorLoss, MiraLossConfig, mira_loss};
pub use overlong::{OverlongConfig, overlong};
pub use policy::{clip_fraction, policy_loss};

use crate::{Error, Result};

/// The largest log-ratio that is raised to a power, either way; beyond it a ratio stays put and has no gradient (as in verl).
const LOG_RATIO_LIMIT: f64 = 20.0;

/// One sampled sequence with its scores; all lists are as long as it, and what stands outside `mask` counts for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The tokens that the policy made and that are trained; prompts, observations and tool output are not.
    pub mask: Vec<bool>,
    /// Log-probabilities under the policy in training.
    pub logprobs: Vec<f32>,
    /// Those under the policy at the start of the update.
    pub old_logprobs: Vec<f32>,
    /// Advantages.
    pub advantages: Vec<f32>,
    /// Factors of the policy loss from [`correction`]; 1 for none.
    pub weights: Vec<f32>,
}

/// A loss over a batch and where it falls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// The loss.
    pub value: f64,
    /// `[sequence][token]`: its derivative in the token's new log-probability; 0 outside the mask.
    pub derivatives: Vec<Vec<f32>>,
}

impl Loss {
    /// A loss of 0 over sequences as long as these masks.
    fn zero<'a>(masks: impl Iterator<Item = &'a Vec<bool>>) -> Self {
        Self { value: 0.0, derivatives: masks.map(|mask| vec![0.0; mask.len()]).collect() }
    }

    /// The sum with another loss over the same sequences.
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

    /// The weights with which `Σ weight * -logprob` has this loss's gradient: the derivatives, negated.
    ///
    /// They are normalised already: a trainer that divides by the weights it has seen undoes that.
    pub fn head_weights(&self) -> Vec<Vec<f32>> {
        self.derivatives.iter().map(|derivatives| derivatives.iter().map(|d| -d).collect()).collect()
    }
}

/// The trained positions of a mask.
fn trained(mask: &[bool]) -> impl Iterator<Item = usize> + Clone + '_ {
    mask.iter().enumerate().filter(|(_, trained)| **trained).map(|(t, _)| t)
}

/// Refuses an empty batch, lists of other lengths than their mask, and trained tokens with numbers that are not finite.
fn check_lists<'a>(count: usize, lists: impl Fn(usize) -> (&'a [bool], Vec<(&'static str, &'a [f32])>)) -> Result<()> {
    if count == 0 {
        return Err(Error::Batch { index: 0, problem: "the batch is empty".into() });
    }
    for index in 0..count {
        let (mask, lists) = lists(index);
        for (name, list) in lists {
            let problem = if list.len() != mask.len() {
                format!("has {} {name} for {} tokens", list.len(), mask.len())
            } else if let Some(t) = trained(mask).find(|t| !list[*t].is_finite()) {
                format!("has {} among its {name} at trained token {t}; leave the token out of the mask", list[t])
            } else {
                continue;
            };
            return Err(Error::Batch { index, problem });
        }
    }
    Ok(())
}

/// [`check_lists`] of all that a sample holds.
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

    /// A batch of one sequence, all of it trained, with ratios to the old policy.
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
