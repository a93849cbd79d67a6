//! The runner of the daemon's queue, with the metrics and traces of its parts, and the sender of its webhooks.

mod browsers;
mod metered;
mod observe;
mod output;
mod person;
mod runner;
mod settings;
mod webhooks;

pub use metered::{MeteredBrowser, MeteredEngine};
pub use observe::observe;
pub use runner::{BrowserRunner, ModelSource};
pub use settings::RunnerSettings;
pub use webhooks::HttpWebhookSender;
