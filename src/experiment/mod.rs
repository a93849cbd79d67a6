//! Experiments: arms of settings against each other over training seeds, on the same test tasks; resumable, with a table and a figure.

mod figure;
mod run;
mod spec;
mod table;

pub use run::{Running, run};
pub use spec::Spec;
pub use table::{ArmResult, Results};
