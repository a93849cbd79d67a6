//! The error responses that the API's document lists for the operations.

use utoipa::IntoResponses;

use super::problem::Problem;

/// The error responses that every operation may give.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum CommonErrors {
    /// The request cannot be read
    #[response(status = 400, content_type = "application/problem+json")]
    Unreadable(Problem),
    /// The request has no valid token
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The host or origin is not allowed, the token's scope is too small, or the CSRF token is missing
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The daemon failed
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// The daemon is shutting down
    #[response(status = 503, content_type = "application/problem+json")]
    Draining(Problem),
}

/// The error response of an operation on a resource that may not exist.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum NotFound {
    /// The resource does not exist
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// The further error responses of an operation that changes something.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum WriteErrors {
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(Problem),
    /// The resource's state does not allow the operation
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The content type is not JSON
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// The body does not fit its schema
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// The error response of an operation that adds a task to the queue.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "read by the document's macros only")]
pub enum QueueFull {
    /// The queue is full; the header `Retry-After` says when to try again
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds after which to try again")))]
    Full(Problem),
}
