//! Trainable models with their operations, optimisers, critics and training recipes.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod adapter;
pub mod advantages;
#[cfg(feature = "gpu-training")]
mod composed;
#[cfg(not(feature = "gpu-training"))]
#[path = "composed_absent.rs"]
mod composed;
pub mod critic;
mod device;
pub mod doctor;
mod error;
mod example;
pub mod files;
pub mod losses;
pub mod model;
mod muon;
pub mod ops;
pub mod optim;
pub mod plot;
pub mod probes;
pub mod recipes;
pub mod replay;
pub mod rewards;
mod sequence;
#[cfg(test)]
mod testing;
mod trainer;

pub use device::DeviceKind;
pub use error::{Error, Result};
pub use model::{Model, ModelConfig};
pub use ops::matmul::Precision;
pub use recipes::{policy, sft};
pub use sequence::Sequence;
pub use trainer::{Batch, Metrics, Scored, Trainer};
