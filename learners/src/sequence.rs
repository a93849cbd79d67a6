//! A token sequence with the weight of each prediction.

use std::sync::Arc;

use crate::ops::head::LogitsProcessor;

/// A sequence of tokens with the weight of predicting each token from the tokens before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// The token ids.
    pub tokens: Vec<u32>,
    /// `weights[i]` is the weight of predicting `tokens[i]`; a token with weight 0 is not trained. The first weight is ignored, because no token
    /// precedes it.
    pub weights: Vec<f32>,
    /// `entropy_weights[i]` is the weight of the entropy of the distribution that `tokens[i]` is drawn from: a positive weight rewards a high
    /// entropy. Empty if the entropy does not count. A trainer that divides gradients by the sum of `weights` divides these terms by it too.
    pub entropy_weights: Vec<f32>,
    /// `masks[i]` holds the tokens that a grammar allowed at position `i`, one bit each, lowest bit first; `None` allows all tokens. Empty if no
    /// position has a mask.
    pub masks: Vec<Option<Arc<[u32]>>>,
    /// The temperature of the distributions; 0 means 1.
    pub temperature: f32,
}

impl Sequence {
    /// Returns the mask and temperature of the distribution that `tokens[at]` is drawn from.
    pub(crate) fn logits_processor(&self, at: usize) -> LogitsProcessor {
        let temperature = if self.temperature > 0.0 { self.temperature } else { 1.0 };
        LogitsProcessor { allowed: self.masks.get(at).cloned().flatten(), temperature }
    }

    /// Returns the weight of the entropy of the distribution that `tokens[at]` is drawn from.
    pub(crate) fn entropy_weight(&self, at: usize) -> f32 {
        self.entropy_weights.get(at).copied().unwrap_or(0.0)
    }

    /// Returns whether the prediction of `tokens[at]` is needed: its log-probability or the entropy has a weight.
    pub(crate) fn needs(&self, at: usize) -> bool {
        self.weights.get(at).is_some_and(|weight| *weight != 0.0) || self.entropy_weight(at) != 0.0
    }

    /// Describes why a model with this vocabulary size and number of positions cannot train on the sequence; `None` if it can.
    pub(crate) fn problem(&self, vocabulary: usize, positions: usize) -> Option<String> {
        let len = self.tokens.len();
        if len != self.weights.len() {
            Some(format!("has {len} tokens and {} weights", self.weights.len()))
        } else if !self.entropy_weights.is_empty() && self.entropy_weights.len() != len {
            Some(format!("has {len} tokens and {} entropy weights", self.entropy_weights.len()))
        } else if len > positions {
            Some(format!("has {len} tokens, the model {positions} positions"))
        } else if let Some(token) = self.tokens.iter().find(|t| **t as usize >= vocabulary) {
            Some(format!("holds token {token}, the vocabulary has {vocabulary}"))
        } else if !self.masks.is_empty() && self.masks.len() != len {
            Some(format!("has {len} tokens and {} masks", self.masks.len()))
        } else if let Some(at) = (0..self.masks.len()).find(|at| self.needs(*at) && !self.logits_processor(*at).allows(self.tokens[*at])) {
            Some(format!("trains token {} at {at}, which its mask does not allow", self.tokens[at]))
        } else if self.weights.iter().chain(&self.entropy_weights).any(|w| !w.is_finite()) {
            Some("holds a weight that is not finite".into())
        } else {
            None
        }
    }
}
