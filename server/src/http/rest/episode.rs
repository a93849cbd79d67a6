//! The recording of a task: its episode and the screenshots.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use milepost_runtime::{Episode, EpisodeStore};

use crate::http::auth::Reader;
use crate::http::errors::{CommonErrors, NotFound, Problem};
use crate::http::request::payload::Path;
use crate::http::state::App;

/// Get the episode of a task's last attempt: plans, steps, observations and model calls
#[utoipa::path(get, path = "/v1/tasks/{id}/episode", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task's id")), responses(
    (status = 200, description = "The episode", body = Object), CommonErrors, NotFound))]
pub(super) async fn show(State(app): State<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Episode>, Problem> {
    let episode = episode_id(&app, &id).await?;
    match app.store.load(&episode).await? {
        Some(episode) => Ok(Json(episode)),
        None => Err(Problem::missing(format!("the episode of task {id} was removed (`episodes.retention_days`)"))),
    }
}

/// Get the screenshot of a turn; the task's `step` events name the screenshots that exist
#[utoipa::path(get, path = "/v1/tasks/{id}/screenshots/{n}", tag = "tasks",
    params(("id" = String, Path, format = Uuid, description = "The task's id"), ("n" = u32, Path, minimum = 0, maximum = 100_000, description = "The number of the turn, from 0")),
    responses((status = 200, description = "The screenshot", body = Vec<u8>, content_type = "image/png"), CommonErrors, NotFound))]
pub(super) async fn screenshot(
    State(app): State<App>,
    _: Reader,
    Path((id, turn)): Path<(String, u32)>,
) -> Result<impl IntoResponse, Problem> {
    let episode = episode_id(&app, &id).await?;
    // The path cannot leave the directory: the id comes from the store, and the turn is a number.
    let path = app.settings.episodes.join(format!("screenshots/{episode}/{turn:03}.png"));
    match tokio::fs::read(&path).await {
        Ok(png) => Ok(([(header::CONTENT_TYPE, "image/png")], png)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Problem::missing(format!("turn {turn} left no screenshot (`episodes.screenshots` says which do)")))
        }
        Err(error) => Err(Problem::internal(&error)),
    }
}

/// Returns the id of the episode of the task's last attempt.
async fn episode_id(app: &App, id: &str) -> Result<String, Problem> {
    let task = app.service.get(id).await?;
    task.episode.ok_or_else(|| Problem::missing(format!("task {id} has not begun yet; its events say when it does")))
}

/// Returns the number of the turn that a screenshot's file is named after.
pub(crate) fn screenshot_turn(file: &str) -> Option<u32> {
    std::path::Path::new(file).file_stem()?.to_str()?.parse().ok()
}
