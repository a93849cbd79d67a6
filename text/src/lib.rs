//! Tokenizer, chat template, grammar to token mask, and their hashes.
//!
//! Everything that turns text into token ids and back is in this crate, so that the engine's sampler and the learner cannot
//! disagree: both render with the same [`TextModel`], mask with the same [`GrammarCompiler`] and normalise with the same
//! [`log_softmax_masked`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod completion;
mod error;
mod grammar;
mod mask;
mod model;
mod template;
mod token_bytes;
mod token_environment;
mod tokenizer;

pub use milepost_runtime::hash::hash16;

pub use error::{Error, Result};
pub use grammar::{GrammarCompiler, GrammarMask, rebuild_masks};
pub use mask::{BitMask, log_softmax_masked, log_softmax_masked_into, masked_logprob};
pub use model::TextModel;
pub use template::{ChatTemplate, SEED_TEMPLATE, write_seed_template};
pub use tokenizer::{SEED_SPECIALS, Tokenizer, train_bpe};
