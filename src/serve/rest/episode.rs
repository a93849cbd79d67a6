//! A task's recording: the episode and its screenshots.

use axum::Json;
use axum::extract::State as Of;
use axum::http::header;
use axum::response::IntoResponse;
use milepost_runtime::{Episode, EpisodeStore};

use super::refusals::{Absent, Refused};
use crate::serve::App;
use crate::serve::auth::Reader;
use crate::serve::payload::Path;
use crate::serve::problem::Problem;

/// The episode of a task's last attempt: plans, steps, observations, model calls
#[utoipa::path(get, path = "/v1/tasks/{id}/episode", tag = "tasks", params(("id" = String, Path, format = Uuid, description = "The task")), responses(
    (status = 200, description = "The episode", body = Object), Refused, Absent))]
pub(super) async fn show(Of(app): Of<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Episode>, Problem> {
    let episode = episode_of(&app, &id).await?;
    match app.store.load(&episode).await? {
        Some(episode) => Ok(Json(episode)),
        None => Err(Problem::missing(format!("the episode of task {id} was removed (`episodes.retention_days`)"))),
    }
}

/// A screenshot of a turn, from 0; `step` events name those that there are
#[utoipa::path(get, path = "/v1/tasks/{id}/screenshots/{n}", tag = "tasks",
    params(("id" = String, Path, format = Uuid, description = "The task"), ("n" = u32, Path, minimum = 0, maximum = 100_000, description = "The turn")),
    responses((status = 200, description = "The picture", body = Vec<u8>, content_type = "image/png"), Refused, Absent))]
pub(super) async fn screenshot(Of(app): Of<App>, _: Reader, Path((id, turn)): Path<(String, u32)>) -> Result<impl IntoResponse, Problem> {
    let episode = episode_of(&app, &id).await?;
    // Both parts are ours: the id out of the store, and a number.
    let path = app.config.episodes.directory.join(format!("screenshots/{episode}/{turn:03}.png"));
    match tokio::fs::read(&path).await {
        Ok(png) => Ok(([(header::CONTENT_TYPE, "image/png")], png)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Problem::missing(format!("turn {turn} left no screenshot (`episodes.screenshots` says which do)")))
        }
        Err(error) => Err(Problem::internal(&error)),
    }
}

async fn episode_of(app: &App, id: &str) -> Result<String, Problem> {
    let task = app.service.get(id).await?;
    task.episode.ok_or_else(|| Problem::missing(format!("task {id} has not begun yet; its events say when it does")))
}

/// The turn of a screenshot's file.
pub(in crate::serve) fn number(file: &str) -> Option<u32> {
    std::path::Path::new(file).file_stem()?.to_str()?.parse().ok()
}
