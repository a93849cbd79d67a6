//! Tokenizer, chat template, grammar to token mask, and their hashes.
//!
//! Everything that turns words into token ids and back lives here, so that the sampler in the engine and the learner cannot
//! disagree: both render with the same [`TextModel`], mask with the same [`GrammarCompiler`] and normalise with the same
//! [`log_softmax_masked`].

mod error;
mod grammar;
mod landing;
mod mask;
mod model;
mod template;
mod tokenizer;

pub use error::{Error, Result};
pub use grammar::{GrammarCompiler, GrammarMask, rebuild_masks};
pub use mask::{BitMask, log_softmax_masked, log_softmax_masked_into, masked_logprob};
pub use model::TextModel;
pub use template::{ChatTemplate, SEED_TEMPLATE, write_seed_template};
pub use tokenizer::{SEED_SPECIALS, Tokenizer, train_bpe};

/// SHA-256 of some bytes, the first 16 hex digits: how weights, tokenizers and templates are named.
pub fn hash16(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
