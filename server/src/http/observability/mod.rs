//! Health, metrics, logs and traces of the daemon.

mod health;
mod metrics_recorder;
mod telemetry;

pub(super) use health::routes;
pub use metrics_recorder::install as install_metrics_recorder;
pub use telemetry::{Telemetry, start as start_telemetry};
