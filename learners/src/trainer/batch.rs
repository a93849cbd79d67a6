//! What goes into a trainer, and what it says about it.

use std::sync::Arc;

use crate::ops::head::Lens;

/// Tokens, and how much it matters to predict each from those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// `weights[i]` is the weight of predicting `tokens[i]`: 0 is not trained; the first counts for nothing.
    pub weights: Vec<f32>,
    /// `entropy_weights[i]` is the weight of the entropy of the distribution that `tokens[i]` is drawn from: above 0 rewards a high one.
    /// Empty for none. A trainer that divides by the weights it has seen divides these as well, by the sum of `weights`.
    pub entropy_weights: Vec<f32>,
    /// `masks[i]` holds the tokens that a grammar allowed in the place of `tokens[i]`, one bit each, lowest first; all where there is none.
    pub masks: Vec<Option<Arc<[u32]>>>,
    /// The distribution's temperature; 0 is read as 1.
    pub temperature: f32,
}

impl Sequence {
    /// What the distribution over `tokens[at]` is narrowed to.
    pub(crate) fn lens(&self, at: usize) -> Lens {
        let temperature = if self.temperature > 0.0 { self.temperature } else { 1.0 };
        Lens { allowed: self.masks.get(at).cloned().flatten(), temperature }
    }

    /// The weight of the entropy in the place of `tokens[at]`.
    pub(crate) fn entropy_weight(&self, at: usize) -> f32 {
        self.entropy_weights.get(at).copied().unwrap_or(0.0)
    }

    /// Whether anything is asked about the distribution over `tokens[at]`.
    pub(crate) fn needs(&self, at: usize) -> bool {
        self.weights.get(at).is_some_and(|weight| *weight != 0.0) || self.entropy_weight(at) != 0.0
    }

    /// Why a model with so many tokens and positions cannot train on it; `None` if it can.
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
        } else if let Some(at) = (0..self.masks.len()).find(|at| self.needs(*at) && !self.lens(*at).allows(self.tokens[*at])) {
            Some(format!("trains token {} at {at}, which its mask does not allow", self.tokens[at]))
        } else if self.weights.iter().chain(&self.entropy_weights).any(|w| !w.is_finite()) {
            Some("holds a weight that is not finite".into())
        } else {
            None
        }
    }
}

/// What one call trains on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The sequences, of any lengths.
    pub sequences: Vec<Sequence>,
}

/// What a batch said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `Σ weight * -logprob / Σ |weight|`.
    pub loss: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Predictions with a weight.
    pub trained_tokens: usize,
    /// Mean entropy of the distributions of those predictions, in nats; `NaN` for none.
    pub entropy: f64,
    /// Fraction of the sequences with a weight of at least 1 whose every such token was the likeliest; `NaN` for none.
    pub exact: f64,
    /// The same for each sequence; `None` where no weight is at least 1.
    pub exact_sequences: Vec<Option<bool>>,
}

/// What a model says about one token of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// Its log-probability, in nats.
    pub logprob: f32,
    /// The entropy of the distribution that it is drawn from, in nats.
    pub entropy: f32,
}
