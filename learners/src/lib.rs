//! Trainable model, fused operations, optimiser and recipes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adapter;
pub mod advantages;
mod composed;
pub mod critic;
pub mod doctor;
mod error;
pub mod failures;
pub mod files;
pub mod gate;
mod hidden;
pub mod improve;
pub mod losses;
pub mod model;
mod muon;
pub mod ops;
pub mod optim;
mod pass_at_k;
pub mod phases;
pub mod plot;
pub mod probes;
pub mod recipes;
pub mod replay;
pub mod rewards;
pub mod statistics;
#[cfg(test)]
mod testing;
mod trainer;

pub use composed::DeviceKind;
pub use error::{Error, Result};
pub use model::{Model, ModelConfig};
pub use ops::matmul::Precision;
pub use pass_at_k::pass_at_k;
pub use recipes::{policy, sft};
pub use trainer::{Batch, Metrics, Scored, Sequence, Trainer};
