//! Request ids: one for each request, told in the answer, logged with all that it leads to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::problem::Problem;

const HEADER: &str = "x-request-id";
/// Most tasks whose requests are remembered.
const MOST: usize = 10_000;

/// A request's id.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(fresh())))
    }
}

/// Which request handed which task in, for as long as the task runs.
#[derive(Default)]
pub struct Requests(Mutex<HashMap<String, String>>);

impl Requests {
    /// Remembers a task's request.
    pub fn remember(&self, task: &str, request: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.insert(task.to_owned(), request.to_owned());
        }
    }

    /// A task's request, where it was handed in since the start.
    pub fn of(&self, task: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Forgets a task that ended.
    pub fn forget(&self, task: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A caller's own id, where it is one that can stand in a log line.
fn given(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(HEADER)?.to_str().ok()?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    ((1..=64).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// Gives each request its id, its span and its place in the figures; its answer the headers that keep it to itself.
pub async fn trace(mut request: Request, next: Next) -> Response {
    let id = given(request.headers()).unwrap_or_else(fresh);
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("http", otel.name = %format!("{method} {route}"), otel.kind = "server", request_id = %id,
        http.request.method = %method, http.route = %route, http.response.status_code = tracing::field::Empty);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let labels = [("method", method.to_string()), ("route", route), ("status", status.to_string())];
    metrics::counter!("milepost_http_requests_total", &labels).increment(1);
    metrics::histogram!("milepost_http_request_seconds", &labels[..2]).record(began.elapsed().as_secs_f64());
    span.in_scope(|| tracing::debug!(status, "answered"));
    protect(response.headers_mut(), &id);
    response
}

fn protect(headers: &mut HeaderMap, id: &str) {
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
