//! Generations of adapters: what there is, and putting one into service or out of it under traffic.

use axum::Json;
use axum::extract::State as Of;
use chrono::{DateTime, Utc};
use milepost_runtime::AdapterRegistry;
use milepost_runtime::registry::{Record, Rollback};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::refusals::{Absent, Refused, Unchanged};
use crate::generations::{self, Row};
use crate::serve::App;
use crate::serve::auth::{Administrator, Reader};
use crate::serve::canary::CanaryStatus;
use crate::serve::payload::{Optional, Path};
use crate::serve::problem::Problem;

/// A generation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Adapter {
    /// Its id.
    id: String,
    /// What became of it.
    status: &'static str,
    /// Whether it serves now.
    serving: bool,
    /// Its parent's id; null is the base.
    parent: Option<String>,
    /// Hash of the base weights.
    base: String,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// The recipe that made it; empty for an adapter from elsewhere.
    recipe: String,
    /// Measurements, oldest first: `occasion`, `at`, `candidate` and `incumbent` as [solved, of], `p`, `decision`, `reason`.
    #[schema(value_type = Vec<Object>)]
    figures: Vec<Value>,
    /// Changes of status, oldest first: `status`, `at`, `reason`.
    #[schema(value_type = Vec<Object>)]
    history: Vec<Value>,
}

/// All generations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Adapters {
    /// The generation that answers now: the base's own id where no adapter serves.
    generation: String,
    /// A generation that serves a share of the tasks on trial; null is none.
    canary: Option<CanaryStatus>,
    /// The generations.
    adapters: Vec<Adapter>,
}

/// Why, for the record.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Why {
    /// In words.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// What serves after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Serving {
    /// The adapter; null is the base model.
    serving: Option<String>,
}

impl From<Row> for Adapter {
    fn from(row: Row) -> Self {
        let values = |list: Result<Value, serde_json::Error>| match list {
            Ok(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        let Row { record, serving } = row;
        let Record { id, generation, status, created_at, recipe, figures, history } = record;
        Self {
            id,
            status: status.word(),
            serving,
            parent: generation.parent,
            base: generation.base,
            created_at,
            recipe,
            figures: values(serde_json::to_value(figures)),
            history: values(serde_json::to_value(history)),
        }
    }
}

/// List the generations
#[utoipa::path(get, path = "/v1/adapters", tag = "adapters", responses((status = 200, description = "Newest first", body = Adapters), Refused))]
pub(super) async fn list(Of(app): Of<App>, _: Reader) -> Result<Json<Adapters>, Problem> {
    let adapters = generations::rows(&app.registry).await?.into_iter().map(Adapter::from).collect();
    Ok(Json(Adapters { generation: app.mind.engine.generation().id(), canary: app.canary.status(), adapters }))
}

/// Put a generation into service: it proves itself first, and no request fails meanwhile
#[utoipa::path(post, path = "/v1/adapters/{id}/promote", tag = "adapters", request_body(content = Option<Why>),
    params(("id" = String, Path, max_length = 128, description = "The generation, or the unique beginning of its id")), responses(
    (status = 200, description = "It serves", body = Serving), Refused, Absent, Unchanged))]
pub(super) async fn promote(
    Of(app): Of<App>,
    Administrator(caller): Administrator,
    Path(id): Path<String>,
    Optional(Why { reason }): Optional<Why>,
) -> Result<Json<Serving>, Problem> {
    let record = known(&app, &id).await?;
    let reason = reason.unwrap_or_else(|| format!("by {}", caller.name));
    let _turn = app.improvement.changing().await;
    let promoted = generations::promote_live(&app.registry, &*app.mind.engine, &record, &reason).await;
    promoted.map_err(|error| Problem::conflict(format!("generation {} was not promoted: {error}", record.id)))?;
    Ok(Json(Serving { serving: Some(record.id) }))
}

/// Take a generation out of service; what served before and is still good serves again
#[utoipa::path(post, path = "/v1/adapters/{id}/rollback", tag = "adapters", request_body(content = Option<Why>),
    params(("id" = String, Path, max_length = 128, description = "The generation that serves, or the unique beginning of its id")), responses(
    (status = 200, description = "It serves no more", body = Serving), Refused, Absent, Unchanged))]
pub(super) async fn rollback(
    Of(app): Of<App>,
    Administrator(caller): Administrator,
    Path(id): Path<String>,
    Optional(Why { reason }): Optional<Why>,
) -> Result<Json<Serving>, Problem> {
    let record = known(&app, &id).await?;
    let _turn = app.improvement.changing().await;
    let reason = reason.unwrap_or_else(|| format!("by {}", caller.name));
    let back = generations::rollback_live(&app.registry, &*app.mind.engine, &record.id, &reason).await;
    match back.map_err(|error| Problem::conflict(format!("generation {} still serves: {error}", record.id)))? {
        Rollback::Done { serving } => Ok(Json(Serving { serving })),
        Rollback::NotServing { serving } => {
            let now = serving.map_or_else(|| "the base model serves".to_owned(), |serving| format!("{serving} serves"));
            Err(Problem::conflict(format!("generation {} does not serve: {now}", record.id)))
        }
    }
}

async fn known(app: &App, id: &str) -> Result<Record, Problem> {
    let found = match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => app.registry.get(id).await?,
        false => None,
    };
    found
        .ok_or_else(|| Problem::missing(format!("there is no generation {id:?} (or several begin with it); `GET /v1/adapters` lists them")))
}
