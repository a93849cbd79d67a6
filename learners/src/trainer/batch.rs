//! The inputs and results of a trainer.

use crate::sequence::Sequence;

/// The sequences of one training call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The sequences, whose lengths may differ.
    pub sequences: Vec<Sequence>,
}

/// Metrics of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The loss `Σ weight * -logprob / Σ |weight|`.
    pub loss: f64,
    /// The number of tokens that the model computed.
    pub tokens: usize,
    /// The number of predictions with a weight.
    pub trained_tokens: usize,
    /// The mean entropy of the distributions of these predictions, in nats; `NaN` if there are none.
    pub entropy: f64,
    /// The fraction of exact sequences: of the sequences with a token of weight at least 1, those in which every such token is the most likely
    /// one. `NaN` if there are none.
    pub exact: f64,
    /// For each sequence, whether it is exact; `None` if no token has a weight of at least 1.
    pub exact_sequences: Vec<Option<bool>>,
}

/// A model's score of one token of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// The log-probability of the token, in nats.
    pub logprob: f32,
    /// The entropy of the distribution that the token is drawn from, in nats.
    pub entropy: f32,
}
