//! The state that every handler sees, with the validators of request bodies.

mod app;
mod schemas;

pub use app::{App, AppState, ChatSettings, PageObserver, Parts, ServerSettings};
pub(crate) use schemas::Schemas;
