//! Experiments: arms, each with its own settings, are trained with several seeds and compared on the same test tasks. An experiment can be
//! resumed, and ends with a table and a figure.

mod figure;
mod host;
mod run;
mod spec;
mod table;
mod work;

pub use host::{ArmConfig, ExperimentHost};
pub use run::{ExperimentOptions, run};
pub use spec::{Arm, Spec};
pub use table::{ArmResult, Results};
