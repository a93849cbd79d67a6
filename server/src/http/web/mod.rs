//! The web pages: the tasks at `/`, a task live, its replay, and the adapters. They are rendered here and load one script and one stylesheet,
//! nothing from other servers.
//!
//! Parts of a page that change are regions marked `data-live`. When an event arrives, the script loads the same address again and replaces the
//! regions that changed. Therefore all text, also that of visited web pages, reaches the page only through the templates, which escape it.

mod adapters;
mod assets;
mod curve;
mod page;
mod progress;
mod replay;
mod task;
mod tasks;
mod templates;

use axum::Router;
use axum::routing::get;

use crate::http::state::App;

pub use assets::sign_in;

/// Returns the routes of the web pages.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(tasks::list))
        .route("/tasks/new", get(tasks::new))
        .route("/tasks/{id}", get(task::show))
        .route("/tasks/{id}/replay", get(replay::show))
        .route("/adapters", get(adapters::list))
        .route("/assets/page.css", get(assets::style))
        .route("/assets/page.js", get(assets::script))
}
