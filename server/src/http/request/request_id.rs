//! Request ids: each request has one, which its response carries and which is logged with everything that the request causes.

use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::http::errors::Problem;

/// The header of a request's id, in requests and responses.
const HEADER: &str = "x-request-id";

/// The id of a request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(new_id())))
    }
}

/// Returns a new id (UUID v7).
fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Returns the id that the caller sent, if it is safe in a log line: 1 to 64 letters, digits, `-`, `_` and `.`.
fn caller_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(HEADER)?.to_str().ok()?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    ((1..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// Gives each request its id and its tracing span, counts and times it, and adds the security headers to the response.
pub async fn trace(mut request: Request, next: Next) -> Response {
    let id = caller_id(request.headers()).unwrap_or_else(new_id);
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("http", otel.name = %format!("{method} {route}"), otel.kind = "server", request_id = %id,
        http.request.method = %method, http.route = %route, http.response.status_code = tracing::field::Empty);
    let start = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let labels = [("method", method.to_string()), ("route", route), ("status", status.to_string())];
    metrics::counter!("milepost_http_requests_total", &labels).increment(1);
    metrics::histogram!("milepost_http_request_seconds", &labels[..2]).record(start.elapsed().as_secs_f64());
    span.in_scope(|| tracing::debug!(status, "answered"));
    add_security_headers(response.headers_mut(), &id);
    response
}

/// Adds the security headers that the response does not set itself, and the request's id.
fn add_security_headers(headers: &mut HeaderMap, id: &str) {
    const FIXED: [(&str, &str); 5] = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        (
            "content-security-policy",
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
    ];
    for (name, value) in FIXED {
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HEADER, id);
    }
}
