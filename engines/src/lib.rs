//! Model engines: models on this machine, computed by the trainer's kernels or by mistralrs, and models behind a server that speaks the
//! OpenAI protocol.
//!
//! All implement [`milepost_runtime::Engine`] and [`milepost_runtime::GenerationEngine`]. The local engines record exact token ids and the
//! log-probabilities of the masked distribution, which is the policy that the learner trains.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod backend;
pub mod local;
pub mod remote;

mod config;
mod frontend;
mod hub;
mod identity;
#[cfg(feature = "mistralrs")]
mod mistral;
mod native;
mod proof;
mod sampling;
mod served;
mod source;

pub use config::{Backend, Isq, LocalModelConfig, WeightType};
pub use identity::{base_hash, hub_name_hash};
pub use local::LocalEngine;
pub use proof::{Tolerance, check_probes};
pub use remote::{GrammarField, RemoteEngine, RemoteModelConfig};
pub use source::is_hub_id;

/// Makes an engine error from a message, which should say what to do.
pub(crate) fn failed(message: impl std::fmt::Display) -> milepost_runtime::Error {
    milepost_runtime::Error::Engine(message.to_string())
}
