//! Episodes as resources.

use milepost_runtime::EpisodeStore;
use milepost_runtime::store::EpisodeSummary;
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};

use super::server::Server;

const EPISODES: &str = "milepost://episodes/";
/// The newest so many are listed; older ones are read by their id.
const LISTED: u32 = 50;

/// The address of an episode.
pub(super) fn address(episode: &str) -> String {
    format!("{EPISODES}{episode}")
}

/// The form of all addresses.
pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{EPISODES}{{id}}"), "episode")
        .with_description("A recorded episode: plans, steps, observations, model calls, outcome")
        .with_mime_type("application/json")
}

impl Server {
    /// The newest episodes.
    pub(super) async fn episodes(&self) -> Result<Vec<Resource>, ErrorData> {
        let newest = self.app.store.list(LISTED).await.map_err(|error| internal(&error))?;
        let resource = |episode: EpisodeSummary| {
            let outcome = episode.stop.as_deref().unwrap_or("not ended");
            Resource::new(address(&episode.id), episode.goal)
                .with_description(format!("{outcome} after {} steps, {}", episode.steps, episode.started_at.to_rfc3339()))
                .with_mime_type("application/json")
        };
        Ok(newest.into_iter().map(resource).collect())
    }

    /// An episode, whole.
    pub(super) async fn episode(&self, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        let missing = || ErrorData::resource_not_found(format!("there is no {uri}; `resources/list` shows the newest episodes"), None);
        let id = uri.strip_prefix(EPISODES).filter(|id| !id.is_empty()).ok_or_else(missing)?;
        let episode = self.app.store.load(id).await.map_err(|error| internal(&error))?.ok_or_else(missing)?;
        let text = serde_json::to_string(&episode).map_err(|error| internal(&error))?;
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type("application/json")]))
    }
}

fn internal(error: &dyn std::fmt::Display) -> ErrorData {
    tracing::error!(%error, "an episode cannot be read");
    ErrorData::internal_error("the daemon failed; its log says why", None)
}
