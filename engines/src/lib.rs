//! Model engines: mistralrs and the trainer's kernels (local), and the OpenAI protocol (remote).
//!
//! All stand behind [`milepost_runtime::Engine`]. The local ones record exact token ids and the log-probabilities of the
//! masked distribution, which is the policy that the learner trains; see [`mistral`] for how it is driven.

pub mod mistral;
pub mod native;
pub mod remote;

mod front;
mod proof;
mod sampling;

pub use mistral::{Backend, Isq, LocalModelConfig, MistralEngine, WeightType, base_hash};
pub use native::NativeEngine;
pub use proof::{Tolerance, check_probes};
pub use remote::{GrammarField, RemoteEngine, RemoteModelConfig};

/// An engine error with a message that says what to do.
pub(crate) fn failed(message: impl std::fmt::Display) -> milepost_runtime::Error {
    milepost_runtime::Error::Engine(message.to_string())
}
