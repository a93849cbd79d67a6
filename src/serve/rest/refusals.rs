//! The answers that are no success, as the document names them.

use utoipa::IntoResponses;

use crate::serve::problem::Problem;

/// What any request may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum Refused {
    /// The request cannot be read
    #[response(status = 400, content_type = "application/problem+json")]
    Unreadable(Problem),
    /// No valid token
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(Problem),
    /// A foreign host or origin, a scope that is too small, or a missing CSRF token
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The daemon failed
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(Problem),
    /// The daemon is shutting down
    #[response(status = 503, content_type = "application/problem+json")]
    Draining(Problem),
}

/// What a request about something that may not be there may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum Absent {
    /// There is none
    #[response(status = 404, content_type = "application/problem+json")]
    Missing(Problem),
}

/// What a change may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum Unchanged {
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    Slow(Problem),
    /// Not in this state
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    Large(Problem),
    /// The body is not JSON by its content type
    #[response(status = 415, content_type = "application/problem+json")]
    Media(Problem),
    /// The body does not fit its schema
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// What a request that needs a place in the queue may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum Crowded {
    /// The queue is full; `Retry-After` says when to try again
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    Full(Problem),
}
