//! The models of the OpenAI-compatible API: the local policy, with or without its generation, and the agent.

use axum::Json;
use axum::extract::State;
use milepost_runtime::AdapterRegistry;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{CommonOpenAiErrors, OpenAiError};
use crate::http::auth::Reader;
use crate::http::request::payload::Path;
use crate::http::state::App;

/// The name of the local policy.
const POLICY: &str = "milepost/policy";
/// The name of the agent.
const AGENT: &str = "milepost/agent";

/// The model that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestedModel {
    /// The local policy, which answers chat messages; with the generation if the request names one.
    Policy(Option<String>),
    /// The agent, which carries out the last user message as a web task.
    Agent,
}

impl RequestedModel {
    /// Parses the name of a model. A generation in the name must be the one that serves.
    pub(super) fn parse(app: &App, name: &str) -> Result<Self, OpenAiError> {
        let serving = app.deployment.engine.generation().id();
        let generation = name.strip_prefix(POLICY).and_then(|rest| rest.strip_prefix('@'));
        match generation {
            _ if name == AGENT => Ok(Self::Agent),
            _ if name == POLICY => Ok(Self::Policy(None)),
            Some(generation) if generation == serving => Ok(Self::Policy(Some(generation.to_owned()))),
            Some(_) => Err(OpenAiError::no_model(format!("{name} is not in service; these are: {}", names(&serving).join(", ")))),
            None => Err(OpenAiError::no_model(format!("there is no model {name:?}; these serve: {}", names(&serving).join(", ")))),
        }
    }
}

/// Returns the name of the policy with its generation.
pub(super) fn policy_name(generation: &str) -> String {
    format!("{POLICY}@{generation}")
}

/// Returns the name of the agent.
pub(super) fn agent_name() -> String {
    AGENT.to_owned()
}

/// Returns the names of all models.
fn names(serving: &str) -> [String; 3] {
    [POLICY.to_owned(), policy_name(serving), agent_name()]
}

/// A model that a request can name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    /// The model's name.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// When the generation was registered, as a Unix time in seconds; 0 for the base model.
    created: i64,
    /// The model's owner.
    owned_by: &'static str,
}

/// The list of models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Models {
    /// Always `list`.
    object: &'static str,
    /// The models.
    data: Vec<Model>,
}

/// Returns all models.
async fn all(app: &App) -> Vec<Model> {
    let serving = app.deployment.engine.generation().id();
    // The base model is not in the registry and has no date.
    let created = match app.deployment.registry.get(&serving).await {
        Ok(Some(record)) => record.created_at.timestamp(),
        _ => 0,
    };
    names(&serving).into_iter().map(|id| Model { id, object: "model", created, owned_by: "milepost" }).collect()
}

/// List the models
#[utoipa::path(get, path = "/v1/models", tag = "openai", operation_id = "list_models", responses((status = 200, description = "The models", body = Models), CommonOpenAiErrors))]
pub(super) async fn list(State(app): State<App>, _: Reader) -> Json<Models> {
    Json(Models { object: "list", data: all(&app).await })
}

/// Get a model; the slash in its name may be written as `%2F` or as it is
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai", operation_id = "show_model", params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, description = "The model", body = Model), CommonOpenAiErrors))]
pub(super) async fn show(State(app): State<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Model>, OpenAiError> {
    one(&app, &id).await
}

/// Handles [`show`] for clients that do not encode the slash in the model's name.
pub(super) async fn show_by_parts(
    State(app): State<App>,
    _: Reader,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Json<Model>, OpenAiError> {
    one(&app, &format!("{owner}/{name}")).await
}

/// Returns the model with this name.
async fn one(app: &App, id: &str) -> Result<Json<Model>, OpenAiError> {
    RequestedModel::parse(app, id)?;
    let found = all(app).await.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| OpenAiError::no_model(format!("{id} went out of service")))
}
