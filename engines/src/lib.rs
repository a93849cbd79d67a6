//! Model engines: mistralrs and the trainer's kernels (local), and the OpenAI protocol (remote).
//!
//! All stand behind [`milepost_runtime::Engine`]. The local ones record exact token ids and the log-probabilities of the
//! masked distribution, which is the policy that the learner trains.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod local;
pub mod remote;

mod mistral;
mod native;
mod proof;

pub use local::{Backend, Isq, LocalEngine, LocalModelConfig, WeightType, base_hash, is_hub_id};
pub use proof::{Tolerance, check_probes};
pub use remote::{GrammarField, RemoteEngine, RemoteModelConfig};

/// An engine error with a message that says what to do.
pub(crate) fn failed(message: impl std::fmt::Display) -> milepost_runtime::Error {
    milepost_runtime::Error::Engine(message.to_string())
}
