//! Rollouts: the model calls of an episode as token ids, with their rewards, in the form that the learner reads.

use std::sync::Arc;

use crate::{Error, Result, Sequence};

/// One model call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCall {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Token ids of the completion, as sampled.
    pub completion: Vec<u32>,
    /// `trained[i]` tells whether `completion[i]` is trained; a summarizer's tokens, for example, are not.
    pub trained: Vec<bool>,
    /// `masks[i]` holds the tokens that the grammar allowed at the position of `completion[i]`, one bit each; `None` allows all tokens.
    pub masks: Vec<Option<Arc<[u32]>>>,
    /// Log-probabilities that the sampler recorded, under the masked distribution at `temperature`, in nats.
    pub old_logprobs: Vec<f32>,
    /// The temperature of the distribution; 0 is read as 1.
    pub temperature: f32,
    /// A key of the state in which the call was made, without its volatile parts; calls with equal keys are compared.
    pub anchor: String,
    /// The turn of the episode that the call belongs to; `None` for the plan and the answer.
    pub turn: Option<u32>,
    /// The reward of this call alone.
    pub reward: f64,
    /// The progress of the task in this state by its milestones, 0 to 1, which the potential critic learns; `None` if it is not known.
    pub progress: Option<f64>,
    /// The critic's estimate for the state: the probability of success for MiRA, the remaining return for PPO.
    pub value: f64,
    /// The potential critic's estimate of the progress in the state, 0 to 1.
    pub potential: f64,
}

/// One episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// The episode's id.
    pub id: String,
    /// The task of the episode; episodes of one group are compared.
    pub group: String,
    /// Whether the episode was verified as a success.
    pub success: bool,
    /// Whether the episode comes from an earlier round and is trained on again.
    pub replayed: bool,
    /// The reward of the whole episode, without the rewards of single calls.
    pub reward: f64,
    /// The model calls of the episode, in order.
    pub calls: Vec<ModelCall>,
}

impl Rollout {
    /// Returns the sum of all rewards of the episode.
    pub fn total(&self) -> f64 {
        self.reward + self.calls.iter().map(|call| call.reward).sum::<f64>()
    }

    /// Returns the reward of each call; the last one includes the reward of the whole episode.
    pub fn rewards(&self) -> Vec<f64> {
        let mut rewards: Vec<f64> = self.calls.iter().map(|call| call.reward).collect();
        rewards.last_mut().into_iter().for_each(|last| *last += self.reward);
        rewards
    }

    /// Returns the discounted return from each call on.
    pub fn returns(&self, gamma: f64) -> Vec<f64> {
        let mut returns = self.rewards();
        for t in (1..returns.len()).rev() {
            returns[t - 1] += gamma * returns[t];
        }
        returns
    }

    /// Returns the number of trained tokens.
    pub fn trained_tokens(&self) -> usize {
        self.calls.iter().map(ModelCall::trained_tokens).sum()
    }
}

impl ModelCall {
    /// Returns the number of trained tokens.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }

    /// Returns the sampler's uncertainty about the call: the probability of all tokens but the sampled one, summed over the trained tokens.
    ///
    /// Up to a factor of √2 it bounds the norm of the gradient of the call's log-likelihood in the logits. For most calls of a policy it is
    /// close to 0 (2506.01939 trains only on the 20 % of the tokens with the highest entropy).
    pub fn doubt(&self) -> f64 {
        let trained = self.trained.iter().zip(&self.old_logprobs).filter(|(trained, _)| **trained);
        doubt(trained.map(|(_, logprob)| *logprob))
    }

    /// Returns the number of tokens of prompt and completion.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    /// Checks that all lists are as long as the completion, and that there is a prompt.
    pub(super) fn check(&self, index: usize) -> Result<()> {
        let n = self.completion.len();
        let lists = [("flags", self.trained.len()), ("masks", self.masks.len()), ("log-probabilities", self.old_logprobs.len())];
        match lists.iter().find(|(_, len)| *len != n) {
            Some((name, len)) => Err(Error::Batch { index, problem: format!("its call has {n} completion tokens and {len} {name}") }),
            None if self.prompt.is_empty() => Err(Error::Batch { index, problem: "its call has no prompt".into() }),
            None => Ok(()),
        }
    }

    /// Builds the trainer's sequence, with weight 1 on each trained token.
    pub(super) fn sequence(&self) -> Sequence {
        let prompt_len = self.prompt.len();
        let weights = self.trained.iter().map(|trained| f32::from(u8::from(*trained)));
        Sequence {
            tokens: [&self.prompt[..], &self.completion].concat(),
            weights: std::iter::repeat_n(0.0, prompt_len).chain(weights).collect(),
            masks: std::iter::repeat_n(None, prompt_len).chain(self.masks.iter().cloned()).collect(),
            temperature: self.temperature,
            ..Sequence::default()
        }
    }

    /// Extends a list over the completion to one over the whole sequence, with `filler` for every prompt token.
    pub(super) fn padded<T: Clone>(&self, list: &[T], filler: T) -> Vec<T> {
        std::iter::repeat_n(filler, self.prompt.len()).chain(list.iter().cloned()).collect()
    }
}

/// Sums `1 - p` over sampled tokens with these log-probabilities: an upper bound of the probability that sampling again gives other tokens.
pub fn doubt(logprobs: impl IntoIterator<Item = f32>) -> f64 {
    logprobs.into_iter().map(|logprob| -f64::from(logprob).exp_m1()).sum()
}
