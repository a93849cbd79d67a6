//! Policy training on recorded model calls: rewards become advantages, advantages a loss, and the loss the trainer's token weights.
//!
//! One update leaves out groups without a signal, scores every call under the current policy (the reference), and then takes an optimiser
//! step on each mini-batch of calls, which are scored again and weighted by the loss. Checks along the way decide whether the adapter may
//! be used.

mod config;
mod credit;
mod critics;
mod replayed;
mod report;
mod rollout;
mod update;

pub use config::{ActorKind, CreditKind, PolicyConfig};
pub use credit::{CreditAssignment, assign_credit};
pub use critics::{CriticReport, fit_mira_critics, fit_return_critic};
pub use replayed::replay;
pub use report::{Report, Status};
pub use rollout::{ModelCall, Rollout, doubt};
pub use update::run;
