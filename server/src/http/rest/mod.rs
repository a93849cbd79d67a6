//! The REST API: handlers from typed input to typed output.

mod adapters;
mod episode;
mod events;
mod improve;
mod session;
mod submission;
mod task;
mod tasks;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::state::App;

pub(super) use episode::screenshot_turn;
pub(crate) use submission::NewTask;
pub(crate) use task::Task;
pub(crate) use tasks::submit_task;

/// Returns the routes of the REST API.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tasks::submit, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::resume))
        .routes(routes!(tasks::approve))
        .routes(routes!(tasks::deny))
        .routes(routes!(tasks::message))
        .routes(routes!(tasks::feedback))
        .routes(routes!(events::of_task))
        .routes(routes!(events::of_all))
        .routes(routes!(episode::show))
        .routes(routes!(episode::screenshot))
        .routes(routes!(adapters::list))
        .routes(routes!(adapters::promote))
        .routes(routes!(adapters::rollback))
        .routes(routes!(improve::show, improve::start))
        .routes(routes!(session::sign_in, session::show, session::sign_out))
}
