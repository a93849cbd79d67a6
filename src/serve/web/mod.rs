//! The page at `/`: tasks, a task live, its replay, the adapters; rendered here, with one script and one stylesheet, nothing from elsewhere.
//!
//! A page is made of regions marked `data-live`; the script loads the same address again when an event says that something happened, and
//! puts the regions that changed in place. So all words, those of foreign web pages too, pass the templates' escaping and nothing else.

mod adapters;
mod assets;
mod curve;
mod page;
mod replay;
mod task;
mod tasks;
mod templates;
mod view;

use axum::Router;
use axum::routing::get;

use super::App;

pub use assets::sign_in;

/// The routes.
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
