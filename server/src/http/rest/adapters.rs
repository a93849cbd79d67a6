//! Generations of adapters: listing them, and promoting or rolling one back while requests are served.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use milepost_improve::daemon::CanaryStatus;
use milepost_improve::generations::{self, Row};
use milepost_runtime::AdapterRegistry;
use milepost_runtime::registry::{Record, Rollback};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::auth::{Administrator, Reader};
use crate::http::errors::{CommonErrors, NotFound, Problem, WriteErrors};
use crate::http::request::payload::{OptionalPayload, Path};
use crate::http::state::App;

/// A generation: an adapter with its lineage and measurements.
#[derive(Debug, Serialize, ToSchema)]
pub struct Adapter {
    /// The generation's id.
    id: String,
    /// The generation's status.
    status: &'static str,
    /// Whether the generation serves now.
    serving: bool,
    /// The id of the generation that it was trained from; null is the base model.
    parent: Option<String>,
    /// Hash of the base weights.
    base: String,
    /// When the generation was registered.
    created_at: DateTime<Utc>,
    /// The recipe that trained the generation; empty for an adapter from elsewhere.
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
    /// The generation that serves now: the id of the base model if no adapter serves.
    generation: String,
    /// The generation on trial, which serves a share of the tasks; null if there is none.
    canary: Option<CanaryStatus>,
    /// The generations.
    adapters: Vec<Adapter>,
}

/// The reason for a change of generation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = Why)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeReason {
    /// The reason in words, for the generation's history.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// The adapter that serves after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Serving {
    /// The id of the adapter that serves; null is the base model.
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
#[utoipa::path(get, path = "/v1/adapters", tag = "adapters", responses(
    (status = 200, description = "The generations, newest first", body = Adapters), CommonErrors))]
pub(super) async fn list(State(app): State<App>, _: Reader) -> Result<Json<Adapters>, Problem> {
    let adapters = generations::rows(&app.deployment.registry).await?.into_iter().map(Adapter::from).collect();
    Ok(Json(Adapters { generation: app.deployment.engine.generation().id(), canary: app.deployment.canary(), adapters }))
}

/// Put a generation into service once it has passed its probes; no request fails meanwhile
#[utoipa::path(post, path = "/v1/adapters/{id}/promote", tag = "adapters", request_body(content = Option<ChangeReason>),
    params(("id" = String, Path, max_length = 128, description = "The generation's id, or its unique beginning")), responses(
    (status = 200, description = "The generation serves", body = Serving), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn promote(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Path(id): Path<String>,
    OptionalPayload(ChangeReason { reason }): OptionalPayload<ChangeReason>,
) -> Result<Json<Serving>, Problem> {
    let record = find(&app, &id).await?;
    let reason = reason.unwrap_or_else(|| format!("by {}", caller.name));
    let promoted = app.deployment.promote(&record, &reason).await;
    promoted.map_err(|error| Problem::conflict(format!("generation {} was not promoted: {error}", record.id)))?;
    Ok(Json(Serving { serving: Some(record.id) }))
}

/// Take a generation out of service; the generation that served before serves again if it is still good
#[utoipa::path(post, path = "/v1/adapters/{id}/rollback", tag = "adapters", request_body(content = Option<ChangeReason>),
    params(("id" = String, Path, max_length = 128, description = "The id of the generation that serves, or its unique beginning")), responses(
    (status = 200, description = "The generation no longer serves", body = Serving), CommonErrors, NotFound, WriteErrors))]
pub(super) async fn rollback(
    State(app): State<App>,
    Administrator(caller): Administrator,
    Path(id): Path<String>,
    OptionalPayload(ChangeReason { reason }): OptionalPayload<ChangeReason>,
) -> Result<Json<Serving>, Problem> {
    let record = find(&app, &id).await?;
    let reason = reason.unwrap_or_else(|| format!("by {}", caller.name));
    let rolled_back = app.deployment.rollback(&record.id, &reason).await;
    match rolled_back.map_err(|error| Problem::conflict(format!("generation {} still serves: {error}", record.id)))? {
        Rollback::Done { serving } => Ok(Json(Serving { serving })),
        Rollback::NotServing { serving } => {
            let now = serving.map_or_else(|| "the base model serves".to_owned(), |serving| format!("{serving} serves"));
            Err(Problem::conflict(format!("generation {} does not serve: {now}", record.id)))
        }
    }
}

/// Returns the generation with this id or unique beginning of an id.
async fn find(app: &App, id: &str) -> Result<Record, Problem> {
    let found = match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => app.deployment.registry.get(id).await?,
        false => None,
    };
    found
        .ok_or_else(|| Problem::missing(format!("there is no generation {id:?} (or several begin with it); `GET /v1/adapters` lists them")))
}
