//! A grammar as plain text (Lark, in llguidance's dialect); only the `text` crate compiles it to token masks.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A context-free grammar whose start rule is `start`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grammar(pub String);

impl Grammar {
    /// Returns the hash of the text, 16 hex digits; the store keeps each text once, under its hash.
    pub fn hash(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
