//! Episodes as MCP resources.

use milepost_runtime::store::EpisodeSummary;
use milepost_runtime::{EpisodeStore, SqliteStore};
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};

/// The beginning of the URI of every episode.
const EPISODES: &str = "milepost://episodes/";
/// The maximum number of episodes that are listed, the newest ones; older ones can be read by their id.
const MAX_LISTED: u32 = 50;

/// Returns the URI of an episode.
pub(super) fn episode_uri(episode: &str) -> String {
    format!("{EPISODES}{episode}")
}

/// Returns the template of the episodes' URIs.
pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{EPISODES}{{id}}"), "episode")
        .with_description("A recorded episode: plans, steps, observations, model calls, outcome")
        .with_mime_type("application/json")
}

/// Lists the newest episodes.
pub(super) async fn list(store: &SqliteStore) -> Result<Vec<Resource>, ErrorData> {
    let newest = store.list(MAX_LISTED).await.map_err(|error| internal(&error))?;
    let resource = |episode: EpisodeSummary| {
        let outcome = episode.stop.as_deref().unwrap_or("not ended");
        Resource::new(episode_uri(&episode.id), episode.goal)
            .with_description(format!("{outcome} after {} steps, {}", episode.steps, episode.started_at.to_rfc3339()))
            .with_mime_type("application/json")
    };
    Ok(newest.into_iter().map(resource).collect())
}

/// Returns the whole episode at the URI as JSON.
pub(super) async fn read(store: &SqliteStore, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let missing = || ErrorData::resource_not_found(format!("there is no {uri}; `resources/list` shows the newest episodes"), None);
    let id = uri.strip_prefix(EPISODES).filter(|id| !id.is_empty()).ok_or_else(missing)?;
    let episode = store.load(id).await.map_err(|error| internal(&error))?.ok_or_else(missing)?;
    let text = serde_json::to_string(&episode).map_err(|error| internal(&error))?;
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type("application/json")]))
}

/// Logs the cause and returns an error without it.
fn internal(error: &dyn std::fmt::Display) -> ErrorData {
    tracing::error!(%error, "an episode cannot be read");
    ErrorData::internal_error("the daemon failed; its log says why", None)
}
