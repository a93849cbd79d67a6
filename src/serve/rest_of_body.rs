//! The rest of a body that nobody read. A connection goes on only behind the end of a request: what is short is read off after a
//! refusal, and where that does not come the answer says that the connection ends (RFC 9112, section 9.3). Else a caller that
//! sends its next request on it is cut off without an answer.

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

use super::App;

/// Most bytes that are read off.
const MOST: usize = 64 << 10;

/// Answers, and leaves the connection behind the request's end, or says that it is closed. The rest of a body has the time of any
/// body, `serve.read_seconds` from the head on.
pub async fn read_off(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let until = Instant::now() + Duration::from_secs(app.config.serve.read_seconds);
    // Who asks first would be told to go on.
    let asks = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let shared = Shared(Arc::new(Mutex::new(Inner { body, ended: false })));
    let mut response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    let ended = shared.lock(|inner| inner.ended);
    if !ended && (asks || !shared.read_to_end(until).await) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that its handler and this layer both hold.
#[derive(Clone)]
struct Shared(Arc<Mutex<Inner>>);

struct Inner {
    body: Body,
    ended: bool,
}

impl Shared {
    fn lock<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the rest; whether it came to an end.
    async fn read_to_end(self, until: Instant) -> bool {
        // A handler that still holds the body reads it itself.
        if Arc::strong_count(&self.0) > 1 {
            return true;
        }
        if self.size_hint().lower() > MOST as u64 {
            return false;
        }
        let read = axum::body::to_bytes(Body::new(self), MOST);
        matches!(tokio::time::timeout_at(until, read).await, Ok(Ok(_)))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.lock(|inner| {
            let polled = Pin::new(&mut inner.body).poll_frame(context);
            inner.ended |= matches!(polled, Poll::Ready(None));
            polled
        })
    }

    fn is_end_stream(&self) -> bool {
        self.lock(|inner| inner.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.lock(|inner| inner.body.size_hint())
    }
}
