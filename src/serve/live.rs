//! Verified live outcomes of what serves: a fall below what validation promised takes it out of service.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use milepost_learners::gate::{Breach, LiveBound, LiveConfig};
use milepost_runtime::registry::{Figure, Occasion};
use milepost_runtime::{AdapterRegistry, EpisodeStore};
use milepost_service::{EventKind, TaskRecord};
use serde::{Deserialize, Serialize};

use super::App;
use super::canary::CanaryStatus;
use crate::generations;

/// A generation under watch, as it is written down.
#[derive(Serialize, Deserialize)]
struct Watched {
    generation: String,
    bound: LiveBound,
}

/// Watches the generation that serves.
pub struct LiveWatch {
    config: Option<LiveConfig>,
    file: PathBuf,
    watched: Mutex<Option<Watched>>,
}

impl LiveWatch {
    /// A watch that goes on where its file leaves off.
    pub fn new(config: Option<LiveConfig>, file: PathBuf) -> Self {
        let watched = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { config, file, watched: Mutex::new(watched) }
    }

    /// Takes in a task's verified outcome; a breach rolls what serves back, under traffic.
    pub async fn outcome(&self, app: &App, task: &TaskRecord) {
        let (Some(success), Some(episode)) = (task.success, &task.episode) else { return };
        let Ok(Some(episode)) = app.store.load(episode).await else { return };
        if let Some((status, breach)) = app.canary.outcome(&episode.generation, success) {
            return break_off(app, &status, &breach).await;
        }
        let serving = app.mind.engine.generation();
        if episode.generation != serving.id() || serving.adapter.is_none() {
            return;
        }
        let Ok(Some(record)) = app.registry.get(&episode.generation).await else { return };
        let Some(validated) = record.figure(Occasion::Gate).map(|figure| figure.candidate) else { return };
        let Some(breach) = self.record(&record.id, validated, success) else { return };
        tracing::warn!(generation = %record.id, reason = %breach.reason, "what serves is rolled back");
        let _turn = app.improvement.changing().await;
        let measured = Figure::new(Occasion::Live, breach.live, breach.reason.clone());
        if let Err(error) = app.registry.measured(&record.id, measured).await {
            tracing::warn!(%error, "the live figure was not written down");
        }
        match generations::rollback_live(&app.registry, &*app.mind.engine, &breach.reason).await {
            Ok(_) => metrics::counter!("milepost_rollbacks_total").increment(1),
            Err(error) => tracing::error!(%error, "it could not be rolled back; `milepost adapters rollback` does it by hand"),
        }
    }

    fn record(&self, generation: &str, validated: [u64; 2], success: bool) -> Option<Breach> {
        let config = self.config.clone()?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_none_or(|watched| watched.generation != generation) {
            let bound = LiveBound::new(config, validated).inspect_err(|error| tracing::error!(%error, "`serve.live`")).ok()?;
            *watched = Some(Watched { generation: generation.to_owned(), bound });
        }
        let breach = watched.as_mut()?.bound.record(success);
        let written = serde_json::to_vec(&*watched).map_err(std::io::Error::other).and_then(|text| std::fs::write(&self.file, text));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.file.display(), "the live watch was not written down");
        }
        breach
    }
}

/// Takes a generation back that did not hold its bound on its share of the tasks; what served goes on.
async fn break_off(app: &App, canary: &CanaryStatus, breach: &Breach) {
    tracing::warn!(generation = canary.generation, reason = %breach.reason, "the canary is rolled back");
    let _turn = app.improvement.changing().await;
    if app.canary.status().is_none_or(|now| now.generation != canary.generation) {
        return;
    }
    let undo = async {
        app.registry.measured(&canary.generation, Figure::new(Occasion::Canary, canary.live, breach.reason.clone())).await?;
        app.registry.rollback(&app.mind.engine.generation(), &breach.reason).await
    };
    match undo.await {
        Ok(_) => {
            app.canary.close();
            metrics::counter!("milepost_rollbacks_total").increment(1);
        }
        Err(error) => tracing::error!(%error, "it could not be rolled back; `milepost adapters rollback` does it by hand"),
    }
}

/// Follows all tasks for outcomes that their own checks verified; a person's come with their feedback.
pub(super) async fn follow(app: App) {
    let last = app.service.recent_events(1).await.ok().and_then(|events| events.last().map(|event| event.position));
    let mut events = app.service.all_events(last.unwrap_or(0));
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        if let EventKind::Ended { success: Some(_), .. } = &event.kind
            && let Ok(task) = app.service.get(&event.task).await
        {
            app.live.outcome(&app, &task).await;
        }
    }
}
