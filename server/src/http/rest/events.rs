//! The events of tasks as server-sent events: a follower gets each event once and in order, also after reconnecting.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use milepost_service::EventStream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth::Reader;
use crate::http::errors::{CommonErrors, NotFound, Problem};
use crate::http::request::payload::{Path, Query};
use crate::http::state::App;

/// The time without events after which a comment is sent to keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query parameters of a follower.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowQuery {
    /// Number of the event after which the stream starts. The header `Last-Event-ID` takes precedence.
    #[param(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    after: Option<u64>,
}

/// A server-sent event.
#[derive(ToSchema)]
#[schema(as = Told)]
#[allow(dead_code, reason = "a schema")]
struct ServerSentEvent {
    /// The event's number.
    id: String,
    /// The event's kind: `queued`, `started`, `episode`, `plan`, `milestone`, `step`, `message`, `approval_requested`, `approved`, `denied`,
    /// `cancel_requested`, `interrupted`, `resumed` or `ended`.
    event: String,
    /// A JSON object with `task`, `seq`, `position`, `at`, `kind` and, depending on the kind, `data`.
    data: String,
}

/// The header of a follower that reconnects.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "read by the document's macros only")]
struct LastEventId {
    /// Number of the last event that the follower received.
    #[param(rename = "Last-Event-ID", nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    id: Option<u64>,
}

/// Follow a task's events
///
/// A follower that reconnects sends the number of its last event in the header `Last-Event-ID` and misses no event. The stream ends after the event `ended`.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "events",
    params(("id" = String, Path, format = Uuid, description = "The task's id"), FollowQuery, LastEventId),
    responses((status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"), CommonErrors, NotFound))]
pub(super) async fn of_task(
    State(app): State<App>,
    _: Reader,
    Path(id): Path<String>,
    Query(FollowQuery { after }): Query<FollowQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let events = app.service.events(&id, start_after(&headers, after)?).await?;
    Ok(server_sent(events, |event| event.seq))
}

/// Follow the events of all tasks
///
/// The events have the format of a task's stream, with `position` as `id`. The stream does not end.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(FollowQuery, LastEventId),
    responses((status = 200, description = "The events", body = ServerSentEvent, content_type = "text/event-stream"), CommonErrors))]
pub(super) async fn of_all(
    State(app): State<App>,
    _: Reader,
    Query(FollowQuery { after }): Query<FollowQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let events = app.service.all_events(start_after(&headers, after)?);
    Ok(server_sent(events, |event| event.position))
}

/// Returns the number of the event after which the stream starts: the header `Last-Event-ID`, or else `after`, or else 0.
fn start_after(headers: &HeaderMap, after: Option<u64>) -> Result<u64, Problem> {
    /// 2^53 - 1: greater numbers are not exact in JavaScript.
    const MAX_NUMBER: u64 = 9_007_199_254_740_991;
    let last = match headers.get("last-event-id") {
        None => after.unwrap_or(0),
        Some(value) => {
            let number = value.to_str().ok().and_then(|value| value.trim().parse().ok());
            number.ok_or_else(|| Problem::unreadable("`Last-Event-ID` is no number of an event"))?
        }
    };
    match last.max(after.unwrap_or(0)) > MAX_NUMBER {
        true => Err(Problem::unreadable("there is no event of so high a number")),
        false => Ok(last),
    }
}

/// Turns a stream of events into server-sent events, which carry the number that `id` returns. The follower is counted as long as it listens.
fn server_sent(
    events: EventStream,
    id: impl Fn(&milepost_service::TaskEvent) -> u64 + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let followers = metrics::gauge!("milepost_event_followers");
    followers.increment(1.0);
    let counted = CountedFollower(followers);
    let stream = events.filter_map(move |event| {
        let _ = &counted;
        let sent = match event {
            Ok(event) => Event::default().id(id(&event).to_string()).event(event.kind.word()).json_data(&*event).ok(),
            Err(error) => {
                tracing::error!(%error, "a follower's stream of events failed");
                None
            }
        };
        std::future::ready(sent.map(Ok))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Decrements the number of followers when the follower's stream is dropped.
struct CountedFollower(metrics::Gauge);

impl Drop for CountedFollower {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
