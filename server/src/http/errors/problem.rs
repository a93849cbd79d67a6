//! Maps errors to responses: problem details (RFC 9457) that say what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use milepost_service::Error;
use serde::Serialize;
use utoipa::ToSchema;

/// The number of seconds after which a request may be repeated if the database failed.
const STORE_RETRY_AFTER: u64 = 5;

/// An error response: what went wrong and what to do (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// The reason phrase of the status.
    pub title: &'static str,
    /// What went wrong with this request and what to do.
    pub detail: String,
    /// Seconds after which to try again, for the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// Makes a problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { status: status.as_u16(), title, detail: detail.into(), retry_after: None }
    }

    /// Makes a problem with status 400 (Bad Request).
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Makes a problem with status 403 (Forbidden).
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// Makes a problem with status 404 (Not Found).
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Makes a problem with status 409 (Conflict).
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// Makes a problem with status 413 (Content Too Large) for a body of more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes (`serve.body_limit`)"))
    }

    /// Makes a problem with status 422 (Unprocessable Content).
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Makes a problem with status 500 (Internal Server Error). The cause is logged and not sent to the caller.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the daemon failed; its log says why, under this request's id")
    }

    /// Makes a problem of the service that goes away after `retry_after` seconds.
    fn busy(status: StatusCode, error: &Error, retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(status, error.to_string()) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Full { retry_after, .. } | Error::TooMany { retry_after, .. } => {
                Self::busy(StatusCode::TOO_MANY_REQUESTS, &error, *retry_after)
            }
            Error::Draining { retry_after } => Self::busy(StatusCode::SERVICE_UNAVAILABLE, &error, *retry_after),
            Error::NotFound(_) => Self::missing(error.to_string()),
            Error::Conflict { .. } | Error::KeyReused { .. } | Error::Lost(_) => Self::conflict(error.to_string()),
            Error::Invalid { .. } => Self::invalid(error.to_string()),
            Error::NoSpace { .. } => {
                tracing::error!(%error, "a request failed");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "the daemon's disk is full; free some space and try again. What was recorded is safe",
                )
            }
            Error::Store { .. } => {
                let problem = Self::internal(&error);
                Self { retry_after: Some(STORE_RETRY_AFTER), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, problem.detail) }
            }
            Error::InUse(_) | Error::Episodes(_) => Self::internal(&error),
        }
    }
}

impl From<milepost_runtime::Error> for Problem {
    fn from(error: milepost_runtime::Error) -> Self {
        use milepost_runtime::Error as Runtime;
        match &error {
            Runtime::BadInput(_) | Runtime::Parse { .. } | Runtime::Secret { .. } => Self::invalid(error.to_string()),
            _ => Self::internal(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"milepost\""));
        }
        response
    }
}
