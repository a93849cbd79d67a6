//! A training example: a prompt and its completion, as token ids.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A prompt and the completion that should follow it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Token ids of the expected completion, including the token that ends it.
    pub completion: Vec<u32>,
    /// The kind of the example, for the metrics.
    pub tag: String,
    /// The range of completion tokens that need not be learned, because a grammar forces them when the model generates.
    pub forced: Range<usize>,
}
