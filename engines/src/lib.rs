//! Model engines: mistralrs (local), OpenAI protocol (remote), scripted (tests only).
//!
//! All three stand behind [`milepost_runtime::Engine`]. The local one records exact token ids and the log-probabilities of the
//! masked distribution, which is the policy that the learner trains; see [`mistral`] for how it is driven.

pub mod mistral;
pub mod remote;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;

mod proof;

pub use mistral::{Isq, LocalModelConfig, MistralEngine, WeightType};
pub use proof::{Tolerance, check_probes};
pub use remote::{GrammarField, RemoteEngine, RemoteModelConfig};
#[cfg(any(test, feature = "scripted"))]
pub use scripted::ScriptedEngine;

/// An engine error with a message that says what to do.
pub(crate) fn failed(message: impl std::fmt::Display) -> milepost_runtime::Error {
    milepost_runtime::Error::Engine(message.to_string())
}
