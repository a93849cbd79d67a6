//! Errors in the JSON format of OpenAI's API.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use crate::http::errors::Problem;

/// The maximum size of a problem that is translated, in bytes.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// The description of an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Cause)]
pub(crate) struct ErrorDetail {
    /// What went wrong and what to do.
    pub(crate) message: String,
    /// The class of the error.
    pub(crate) r#type: &'static str,
    /// The invalid field of the request.
    pub(crate) param: Option<&'static str>,
    /// The code of the error, for programs.
    pub(crate) code: Option<&'static str>,
}

/// An error in the format of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub(crate) struct OpenAiError {
    /// The description of the error.
    pub(crate) error: ErrorDetail,
    /// The HTTP status.
    #[serde(skip)]
    #[schema(ignore)]
    status: u16,
    /// Seconds after which to try again, for the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<u64>,
}

impl OpenAiError {
    /// Makes an error with the type and code that belong to the HTTP status.
    fn new(status: u16, message: impl Into<String>) -> Self {
        let (r#type, code) = match status {
            401 => ("authentication_error", Some("invalid_api_key")),
            403 => ("permission_error", None),
            429 => ("rate_limit_error", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self { error: ErrorDetail { message: message.into(), r#type, param: None, code }, status, retry_after: None }
    }

    /// Makes an error with status 400 about a field of the request.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(400, message);
        error.error.param = Some(param);
        error
    }

    /// Makes an error with status 404 about a model that does not exist or does not serve.
    pub(crate) fn no_model(message: String) -> Self {
        let mut error = Self::new(404, message);
        (error.error.param, error.error.code) = (Some("model"), Some("model_not_found"));
        error
    }

    /// Makes an error with status 400 about messages that are longer than the model's context.
    pub(crate) fn too_long(tokens: usize, limit: usize) -> Self {
        let message = format!("this model takes {limit} tokens, and the messages have {tokens}; send fewer or shorter ones");
        let mut error = Self::field("messages", message);
        error.error.code = Some("context_length_exceeded");
        error
    }
}

impl From<Problem> for OpenAiError {
    fn from(problem: Problem) -> Self {
        // OpenAI's API answers a body that does not fit its schema with 400 instead of 422.
        let status = if problem.status == 422 { 400 } else { problem.status };
        Self { retry_after: problem.retry_after, ..Self::new(status, problem.detail) }
    }
}

impl From<milepost_service::Error> for OpenAiError {
    fn from(error: milepost_service::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<milepost_runtime::Error> for OpenAiError {
    fn from(error: milepost_runtime::Error) -> Self {
        match error {
            milepost_runtime::Error::PromptTooLong { tokens, limit, .. } => Self::too_long(tokens, limit),
            error => Problem::from(error).into(),
        }
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        (status, headers, Json(self)).into_response()
    }
}

/// Translates the problems that the guard and the router return on this API's paths into OpenAI's format.
pub async fn translate_problems(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_openai_path = path.starts_with("/v1/chat/") || path == "/v1/models" || path.starts_with("/v1/models/");
    let response = next.run(request).await;
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if is_openai_path && is_problem { translate(response).await } else { response }
}

/// Translates a response whose body is a problem; status and other headers stay.
async fn translate(response: Response) -> Response {
    /// The part of a problem that the translation needs.
    #[derive(Deserialize)]
    struct ProblemDetail {
        detail: String,
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let detail =
        serde_json::from_slice::<ProblemDetail>(&bytes).map_or_else(|_| "the request was refused".to_owned(), |problem| problem.detail);
    let error = OpenAiError::new(parts.status.as_u16(), detail);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let (mut headers, status) = (parts.headers, parts.status);
    let mut translated = Json(error).into_response();
    headers.extend(std::mem::take(translated.headers_mut()));
    (*translated.headers_mut(), *translated.status_mut()) = (headers, status);
    translated
}

/// The error responses that every operation of this API may give.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub(crate) enum CommonOpenAiErrors {
    /// The request has no valid token
    #[response(status = 401)]
    Unauthorized(OpenAiError),
    /// The host or origin is not allowed, or the token's scope is too small
    #[response(status = 403)]
    Forbidden(OpenAiError),
    /// The model does not exist or does not serve
    #[response(status = 404)]
    NoModel(OpenAiError),
    /// The request cannot be read, or asks for something that is not supported
    #[response(status = 400)]
    Invalid(OpenAiError),
    /// The daemon failed
    #[response(status = 500)]
    Internal(OpenAiError),
    /// The daemon is shutting down
    #[response(status = 503)]
    Draining(OpenAiError),
}

/// The further error responses of a request with a body.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub(crate) enum OpenAiWriteErrors {
    /// The body did not arrive in time
    #[response(status = 408)]
    Timeout(OpenAiError),
    /// The idempotency key belongs to another task
    #[response(status = 409)]
    Conflict(OpenAiError),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(OpenAiError),
    /// The content type is not JSON
    #[response(status = 415)]
    UnsupportedMediaType(OpenAiError),
    /// The queue is full; the header `Retry-After` says when to try again
    #[response(status = 429, headers(("Retry-After" = u64, description = "Seconds after which to try again")))]
    QueueFull(OpenAiError),
}
