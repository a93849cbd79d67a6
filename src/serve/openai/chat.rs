//! `POST /v1/chat/completions`.

use axum::extract::State as Of;
use axum::response::Response;

use super::answer::Completion;
use super::models::Wanted;
use super::refusal::{Refusal, Refused, RefusedBody};
use super::request::ChatRequest;
use super::{agent, policy};
use crate::serve::App;
use crate::serve::auth::Operator;
use crate::serve::payload::Payload;
use crate::serve::problem::Problem;
use crate::serve::requests::RequestId;

/// Ask the local policy, or have the agent carry out a web task, as OpenAI's clients do
///
/// `milepost/policy` answers the messages. `milepost/agent` takes the last user message for the goal of a web task, which begins at
/// `milepost.url`, `metadata.url` or the first address in that message; a stream tells the plan, milestones and steps before the answer.
/// With `stream` the answer comes as `chat.completion.chunk` events and ends with `[DONE]`. Unknown fields are passed over.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "create_chat_completion", request_body = ChatRequest, responses(
    (status = 200, description = "The answer, or with `stream` its chunks", content((Completion = "application/json"), (String = "text/event-stream"))),
    Refused, RefusedBody))]
pub(super) async fn complete(
    Of(app): Of<App>,
    Operator(caller): Operator,
    id: RequestId,
    request: Result<Payload<ChatRequest>, Problem>,
) -> Result<Response, Refusal> {
    let Payload(request) = request?;
    let wanted = Wanted::read(&app, &request.model)?;
    request.check()?;
    match wanted {
        Wanted::Policy(generation) => policy::answer(&app, request, generation).await,
        Wanted::Agent => agent::answer(&app, &caller, &id, request).await,
    }
}
