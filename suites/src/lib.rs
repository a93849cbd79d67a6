//! The bundled suite: three small multi-page applications on loopback (a shop, a help desk, a records desk), and seeded tasks on them, each
//! with a checker that reads the server's state, reference milestones with their truth, and an oracle. [`play`] runs an episode of a task.

mod catalog;
mod facts;
mod ground_truth;
mod helpdesk;
mod instance;
mod labels;
mod oracle;
mod page;
mod plan_quality;
mod plan_steps;
pub mod play;
mod records;
mod seeded;
mod served;
mod shop;
mod site;
mod template;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

pub use catalog::{bundled, template};
pub use ground_truth::{GroundTruth, GroundTruthConfig, Reference};
pub use instance::{Instance, ReferenceMilestone};
pub use oracle::Oracle;
pub use served::Served;
pub use template::{Level, SiteKind, Template, seeds, split_of};
