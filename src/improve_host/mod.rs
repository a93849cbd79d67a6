//! Connects the improvement loop to the program: the bundled suite, the configured models, their prompts, and the settings.

mod demonstrations;
mod error;
mod experiments;
mod host;
mod models;
mod prompts;
mod suite;

pub use demonstrations::ProgramDemonstrations;
pub use experiments::ProgramExperiments;
pub use host::{host, loop_settings};
pub use suite::{BundledSuite, template_of};
