//! What one episode leaves for the learner: its model calls as token ids, and what was earned.

use std::sync::Arc;

use crate::{Error, Result, Sequence};

/// One model call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Prompt token ids.
    pub prompt: Vec<u32>,
    /// Completion token ids, as sampled.
    pub completion: Vec<u32>,
    /// `trained[i]`: whether `completion[i]` is the policy's to learn; a summarizer's tokens are not.
    pub trained: Vec<bool>,
    /// `masks[i]` holds the tokens that the grammar allowed in the place of `completion[i]`, one bit each; all where there is none.
    pub masks: Vec<Option<Arc<[u32]>>>,
    /// Log-probabilities that the sampler recorded, of the masked distribution at `temperature`; nats.
    pub old_logprobs: Vec<f32>,
    /// The distribution's temperature; 0 is read as 1.
    pub temperature: f32,
    /// Names the state that the call was made in, without what varies by itself: equal anchors are compared with each other.
    pub anchor: String,
    /// The episode's turn that it belongs to; `None` for plan and answer.
    pub turn: Option<u32>,
    /// What the call earned by itself.
    pub reward: f64,
    /// How much of the task was done in the state, 0 to 1, by its milestones: what a potential critic learns; `None` where it is not known.
    pub progress: Option<f64>,
    /// The critic's estimate of the state: MiRA's of success, 0 to 1; PPO's of what is still earned.
    pub value: f64,
    /// The potential critic's estimate of the progress made in the state, 0 to 1.
    pub potential: f64,
}

/// One episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// The episode's id.
    pub id: String,
    /// The task that it tried; episodes of one group are compared.
    pub group: String,
    /// Whether its outcome was verified as good.
    pub success: bool,
    /// Whether an earlier round played it, and it is trained on again.
    pub replayed: bool,
    /// What the whole episode earned, beside what single calls did.
    pub reward: f64,
    /// Its calls, in order.
    pub turns: Vec<Turn>,
}

impl Rollout {
    /// All that the episode earned.
    pub fn total(&self) -> f64 {
        self.reward + self.turns.iter().map(|turn| turn.reward).sum::<f64>()
    }

    /// What each call earned; what the whole earned comes with the last.
    pub fn rewards(&self) -> Vec<f64> {
        let mut rewards: Vec<f64> = self.turns.iter().map(|turn| turn.reward).collect();
        rewards.last_mut().into_iter().for_each(|last| *last += self.reward);
        rewards
    }

    /// What was earned from each call on, discounted.
    pub fn returns(&self, gamma: f64) -> Vec<f64> {
        let mut returns = self.rewards();
        for t in (1..returns.len()).rev() {
            returns[t - 1] += gamma * returns[t];
        }
        returns
    }

    /// Tokens that are trained.
    pub fn trained_tokens(&self) -> usize {
        self.turns.iter().map(Turn::trained_tokens).sum()
    }
}

impl Turn {
    /// Tokens that are trained.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }

    /// The probability that the sampler gave to other tokens than the trained ones it took, summed over them: it bounds the gradient of the
    /// call's log-likelihood by its logits, up to a factor of the root of 2. Most of a policy's calls have next to none (2506.01939 trains
    /// on the fifth of the tokens that has most).
    pub fn doubt(&self) -> f64 {
        let trained = self.trained.iter().zip(&self.old_logprobs).filter(|(trained, _)| **trained);
        doubt(trained.map(|(_, logprob)| *logprob))
    }

    /// Tokens of prompt and completion.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    /// Refuses lists that do not belong together.
    pub(super) fn check(&self, index: usize) -> Result<()> {
        let n = self.completion.len();
        let lists = [("flags", self.trained.len()), ("masks", self.masks.len()), ("log-probabilities", self.old_logprobs.len())];
        match lists.iter().find(|(_, len)| *len != n) {
            Some((name, len)) => Err(Error::Batch { index, problem: format!("its call has {n} completion tokens and {len} {name}") }),
            None if self.prompt.is_empty() => Err(Error::Batch { index, problem: "its call has no prompt".into() }),
            None => Ok(()),
        }
    }

    /// As the trainer reads it, with weight 1 on each trained token.
    pub(super) fn sequence(&self) -> Sequence {
        let before = self.prompt.len();
        let behind = |of: &dyn Fn(usize) -> f32| (0..before).map(|_| 0.0).chain((0..self.completion.len()).map(of)).collect();
        Sequence {
            tokens: [&self.prompt[..], &self.completion].concat(),
            weights: behind(&|i| f32::from(u8::from(self.trained[i]))),
            masks: std::iter::repeat_n(None, before).chain(self.masks.iter().cloned()).collect(),
            temperature: self.temperature,
            ..Sequence::default()
        }
    }

    /// A list over the completion as one over the whole sequence.
    pub(super) fn padded<T: Clone>(&self, list: &[T], blank: T) -> Vec<T> {
        std::iter::repeat_n(blank, self.prompt.len()).chain(list.iter().cloned()).collect()
    }
}

/// The probability that a sampler gave to other tokens than these, summed over them: more than the chance that it would have said something else.
pub fn doubt(logprobs: impl IntoIterator<Item = f32>) -> f64 {
    logprobs.into_iter().map(|logprob| -f64::from(logprob).exp_m1()).sum()
}
