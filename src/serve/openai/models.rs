//! The models: the local policy by its generation, and the agent.

use axum::Json;
use axum::extract::State as Of;
use milepost_runtime::AdapterRegistry;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::{Refusal, Refused};
use crate::serve::App;
use crate::serve::auth::Reader;
use crate::serve::payload::Path;

const POLICY: &str = "milepost/policy";
const AGENT: &str = "milepost/agent";

/// Which model a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The engine's model, answering chat messages; of this generation where one is named.
    Policy(Option<String>),
    /// The agent: the last user message is a web task.
    Agent,
}

impl Wanted {
    /// Reads a model's name; a named generation must be the one in service.
    pub(super) fn read(app: &App, name: &str) -> Result<Self, Refusal> {
        let serving = app.mind.engine.generation().id();
        let generation = name.strip_prefix(POLICY).and_then(|rest| rest.strip_prefix('@'));
        match generation {
            _ if name == AGENT => Ok(Self::Agent),
            _ if name == POLICY => Ok(Self::Policy(None)),
            Some(generation) if generation == serving => Ok(Self::Policy(Some(generation.to_owned()))),
            Some(_) => Err(Refusal::no_model(format!("{name} is not in service; these are: {}", names(&serving).join(", ")))),
            None => Err(Refusal::no_model(format!("there is no model {name:?}; these serve: {}", names(&serving).join(", ")))),
        }
    }
}

/// The full name of the policy of a generation.
pub(super) fn policy_name(generation: &str) -> String {
    format!("{POLICY}@{generation}")
}

/// The agent's name.
pub(super) fn agent_name() -> String {
    AGENT.to_owned()
}

fn names(serving: &str) -> [String; 3] {
    [POLICY.to_owned(), policy_name(serving), agent_name()]
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    /// Its name.
    id: String,
    /// `model`.
    object: &'static str,
    /// When it came about, in seconds since 1970.
    created: i64,
    /// Who has it.
    owned_by: &'static str,
}

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Models {
    /// `list`.
    object: &'static str,
    /// The models.
    data: Vec<Model>,
}

async fn all(app: &App) -> Vec<Model> {
    let serving = app.mind.engine.generation().id();
    // The base is in no registry: it has no date.
    let created = match app.registry.get(&serving).await {
        Ok(Some(record)) => record.created_at.timestamp(),
        _ => 0,
    };
    names(&serving).into_iter().map(|id| Model { id, object: "model", created, owned_by: "milepost" }).collect()
}

/// The models, as OpenAI's clients list them
#[utoipa::path(get, path = "/v1/models", tag = "openai", operation_id = "list_models", responses((status = 200, description = "The models", body = Models), Refused))]
pub(super) async fn list(Of(app): Of<App>, _: Reader) -> Json<Models> {
    Json(Models { object: "list", data: all(&app).await })
}

/// One model; the slash in its name is written `%2F` or as it is
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai", operation_id = "show_model", params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = Model), Refused))]
pub(super) async fn show(Of(app): Of<App>, _: Reader, Path(id): Path<String>) -> Result<Json<Model>, Refusal> {
    one(&app, &id).await
}

/// The same for clients that leave the slash as it is.
pub(super) async fn show_by_parts(
    Of(app): Of<App>,
    _: Reader,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Json<Model>, Refusal> {
    one(&app, &format!("{owner}/{name}")).await
}

async fn one(app: &App, id: &str) -> Result<Json<Model>, Refusal> {
    Wanted::read(app, id)?;
    let found = all(app).await.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| Refusal::no_model(format!("{id} went out of service")))
}
