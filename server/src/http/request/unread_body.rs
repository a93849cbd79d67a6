//! Reads the rest of a body that the handler left unread.
//!
//! A connection can be used for the next request only once the current request has been read to its end. After a refusal a short rest is read and
//! dropped; if the rest is long or does not arrive, the response says that the connection closes (RFC 9112, section 9.3). Otherwise a caller that
//! sends its next request on the connection would be cut off without an answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::http::state::App;

/// The maximum number of unread bytes that are read and dropped.
const MAX_DRAINED_BYTES: usize = 64 << 10;

/// Runs the handler, and then either reads the body to its end or marks the connection as closing. The rest must arrive within
/// `serve.read_seconds` of the request's head, as every body must.
pub async fn drain_unread_body(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let deadline = Instant::now() + Duration::from_secs(app.settings.serve.read_seconds);
    // Reading the body would answer `Expect: 100-continue` with `100 Continue`, which tells the caller to send the body.
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let shared = SharedBody(Arc::new(Mutex::new(BodyState { body, ended: false })));
    let mut response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    let ended = shared.lock(|state| state.ended);
    if !ended && (expects_continue || !shared.read_to_end(deadline).await) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that the handler and this middleware share.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<BodyState>>);

/// A body, and whether it was read to its end.
struct BodyState {
    body: Body,
    ended: bool,
}

impl SharedBody {
    /// Calls the function with the locked state.
    fn lock<T>(&self, access: impl FnOnce(&mut BodyState) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the rest of the body; returns true if it ended within the limits of size and time, or if a handler still reads it.
    async fn read_to_end(self, deadline: Instant) -> bool {
        // A handler that still holds the body reads it itself.
        if Arc::strong_count(&self.0) > 1 {
            return true;
        }
        if self.size_hint().lower() > MAX_DRAINED_BYTES as u64 {
            return false;
        }
        let read = axum::body::to_bytes(Body::new(self), MAX_DRAINED_BYTES);
        matches!(tokio::time::timeout_at(deadline, read).await, Ok(Ok(_)))
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.lock(|state| {
            let polled = Pin::new(&mut state.body).poll_frame(context);
            state.ended |= matches!(polled, Poll::Ready(None));
            polled
        })
    }

    fn is_end_stream(&self) -> bool {
        self.lock(|state| state.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.lock(|state| state.body.size_hint())
    }
}
