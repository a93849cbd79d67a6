//! Trainable model, fused operations, optimiser and recipes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adapter;
pub mod advantages;
pub mod doctor;
mod error;
mod files;
pub mod gate;
pub mod improve;
pub mod losses;
pub mod model;
mod muon;
pub mod ops;
pub mod optim;
pub mod plot;
pub mod probes;
pub mod recipes;
pub mod statistics;
pub mod rewards;
#[cfg(test)]
mod testing;
mod trainer;

pub use error::{Error, Result};
pub use model::{Model, ModelConfig};
pub use ops::matmul::Precision;
pub use recipes::{policy, sft};
pub use trainer::{Batch, Metrics, Scored, Sequence, Trainer};
