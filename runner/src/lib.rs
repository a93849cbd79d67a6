//! Carries web tasks out: an agent with a model, a browser behind its own egress proxy, and tools.
//!
//! [`run_task`] carries out one task, [`ManualSession`] carries out action lines without a model, and [`daemon`] implements the runner of
//! the daemon's queue.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod browser;
#[cfg(feature = "daemon")]
pub mod daemon;
mod manual;
mod task;

pub use manual::{LineResult, ManualSession};
pub use task::{RunSettings, TaskRun, run_task};
