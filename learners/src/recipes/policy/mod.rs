//! Policy training on recorded model calls: rewards become advantages, advantages a loss, and the loss the trainer's weights.
//!
//! One update: leave out groups that say nothing, score every call under the policy as it stands (the reference), then walk over the calls in
//! mini-batches, each scored again, weighed by the loss, and stepped on. What it finds on the way decides whether its adapter may be used.

mod config;
mod credit;
mod critics;
mod replayed;
mod report;
mod rollout;
mod update;

pub use config::{ActorKind, CreditKind, PolicyConfig};
pub use credit::{Credited, assign};
pub use critics::{CriticReport, estimate, estimate_returns};
pub use replayed::replay;
pub use report::{Report, Status};
pub use rollout::{Rollout, Turn, doubt};
pub use update::run;
