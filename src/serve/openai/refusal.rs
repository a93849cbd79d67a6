//! Errors in the shape that OpenAI's clients read.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use crate::serve::problem::Problem;

/// Most bytes of a problem that is said again in these words.
const PROBLEM_BYTES: usize = 64 << 10;

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Cause {
    /// What went wrong and what to do.
    pub(crate) message: String,
    /// The class of error.
    pub(crate) r#type: &'static str,
    /// The field that is at fault.
    pub(crate) param: Option<&'static str>,
    /// A word for programs.
    pub(crate) code: Option<&'static str>,
}

/// A refusal: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// The cause.
    pub(crate) error: Cause,
    #[serde(skip)]
    #[schema(ignore)]
    status: u16,
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(status: u16, message: impl Into<String>) -> Self {
        let (r#type, code) = match status {
            401 => ("authentication_error", Some("invalid_api_key")),
            403 => ("permission_error", None),
            429 => ("rate_limit_error", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self { error: Cause { message: message.into(), r#type, param: None, code }, status, retry_after: None }
    }

    /// 400 about a field.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(400, message);
        refusal.error.param = Some(param);
        refusal
    }

    /// 404: no such model.
    pub(crate) fn no_model(message: String) -> Self {
        let mut refusal = Self::new(404, message);
        (refusal.error.param, refusal.error.code) = (Some("model"), Some("model_not_found"));
        refusal
    }

    /// 400: the messages do not fit the model.
    pub(crate) fn too_long(tokens: usize, limit: usize) -> Self {
        let message = format!("this model takes {limit} tokens, and the messages have {tokens}; send fewer or shorter ones");
        let mut refusal = Self::field("messages", message);
        refusal.error.code = Some("context_length_exceeded");
        refusal
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        // What does not fit its schema is 400 in this protocol.
        let status = if problem.status == 422 { 400 } else { problem.status };
        Self { retry_after: problem.retry_after, ..Self::new(status, problem.detail) }
    }
}

impl From<milepost_service::Error> for Refusal {
    fn from(error: milepost_service::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<milepost_runtime::Error> for Refusal {
    fn from(error: milepost_runtime::Error) -> Self {
        match error {
            milepost_runtime::Error::PromptTooLong { tokens, limit, .. } => Self::too_long(tokens, limit),
            error => Problem::from(error).into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        (status, headers, Json(self)).into_response()
    }
}

/// Says what the guard and the router refuse on this protocol's paths in its words.
pub async fn in_its_words(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = path.starts_with("/v1/chat/") || path == "/v1/models" || path.starts_with("/v1/models/");
    let response = next.run(request).await;
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if ours && is_problem { translate(response).await } else { response }
}

async fn translate(response: Response) -> Response {
    #[derive(Deserialize)]
    struct Told {
        detail: String,
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, PROBLEM_BYTES).await.unwrap_or_default();
    let detail = serde_json::from_slice::<Told>(&bytes).map_or_else(|_| "the request was refused".to_owned(), |told| told.detail);
    let refusal = Refusal::new(parts.status.as_u16(), detail);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let (mut headers, status) = (parts.headers, parts.status);
    let mut told = Json(refusal).into_response();
    headers.extend(std::mem::take(told.headers_mut()));
    (*told.headers_mut(), *told.status_mut()) = (headers, status);
    told
}

/// What any request of this protocol may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub(crate) enum Refused {
    /// No valid token
    #[response(status = 401)]
    Unknown(Refusal),
    /// A foreign host or origin, or a scope that is too small
    #[response(status = 403)]
    Forbidden(Refusal),
    /// No such model
    #[response(status = 404)]
    Missing(Refusal),
    /// The request cannot be read, or asks for what there is not
    #[response(status = 400)]
    Unreadable(Refusal),
    /// The daemon failed
    #[response(status = 500)]
    Failed(Refusal),
    /// The daemon is shutting down
    #[response(status = 503)]
    Draining(Refusal),
}

/// What a request with a body may be answered besides.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub(crate) enum RefusedBody {
    /// The body did not arrive in time
    #[response(status = 408)]
    Slow(Refusal),
    /// The idempotency key belongs to another task
    #[response(status = 409)]
    Conflict(Refusal),
    /// The body is too large
    #[response(status = 413)]
    Large(Refusal),
    /// The body is not JSON by its content type
    #[response(status = 415)]
    Media(Refusal),
    /// The queue is full; `Retry-After` says when to try again
    #[response(status = 429, headers(("Retry-After" = u64, description = "Seconds")))]
    Full(Refusal),
}
