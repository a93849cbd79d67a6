//! Self-improvement beside a daemon: the loop runs as a child process that is stopped under load, and the generations that it promotes come into
//! service while requests are served.

mod canary;
mod child;
mod config;
mod deployment;
mod live_watch;
mod order;
mod supervisor;
mod trial_bound;

pub use canary::{CanaryConfig, CanaryStatus, TrialModel, adapter_at_start};
pub use child::Program;
pub use config::{ImproveInDaemon, LearnFrom};
pub use deployment::{Deployment, DeploymentSettings};
pub use order::{Finished, ImproveStatus, Order, Running};
pub use supervisor::{Improvement, ImprovementSettings, StartError, WorkerLoad, triggers};
