//! `POST /v1/chat/completions`.

use axum::extract::State;
use axum::response::Response;

use super::answer::Completion;
use super::error::{CommonOpenAiErrors, OpenAiError, OpenAiWriteErrors};
use super::models::RequestedModel;
use super::request::ChatRequest;
use super::{agent, policy};
use crate::http::auth::Operator;
use crate::http::errors::Problem;
use crate::http::request::payload::Payload;
use crate::http::request::request_id::RequestId;
use crate::http::state::App;

/// Get a completion from the local policy, or have the agent carry out a web task
///
/// `milepost/policy` answers the messages. `milepost/agent` takes the last user message as the goal of a web task, which starts at `milepost.url`,
/// `metadata.url` or the first address in that message; a stream shows the plan, milestones and steps before the answer. With `stream` the answer
/// is sent as `chat.completion.chunk` events and ends with `[DONE]`. Unknown fields are ignored.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "create_chat_completion", request_body = ChatRequest, responses(
    (status = 200, description = "The completion, or with `stream` its chunks",
        content((Completion = "application/json"), (String = "text/event-stream"))),
    CommonOpenAiErrors, OpenAiWriteErrors))]
pub(super) async fn complete(
    State(app): State<App>,
    Operator(caller): Operator,
    id: RequestId,
    request: Result<Payload<ChatRequest>, Problem>,
) -> Result<Response, OpenAiError> {
    let Payload(request) = request?;
    let model = RequestedModel::parse(&app, &request.model)?;
    request.check_supported()?;
    match model {
        RequestedModel::Policy(generation) => policy::answer(&app, request, generation).await,
        RequestedModel::Agent => agent::answer(&app, &caller, &id, request).await,
    }
}
