//! What happens to tasks, as server-sent events: each once and in order, also after reconnecting.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State as Of;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use milepost_service::EventStream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::refusals::{Absent, Refused};
use crate::serve::App;
use crate::serve::auth::Reader;
use crate::serve::payload::{Path, Query};
use crate::serve::problem::Problem;

const ALIVE: Duration = Duration::from_secs(15);

/// Where to go on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// Only events after this one; `Last-Event-ID` goes before it.
    #[param(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    after: Option<u64>,
}

/// A server-sent event.
#[derive(ToSchema)]
#[allow(dead_code, reason = "a schema")]
struct Told {
    /// Its number.
    id: String,
    /// Its kind: `queued`, `started`, `episode`, `plan`, `milestone`, `step`, `message`, `approval_requested`, `approved`, `denied`,
    /// `cancel_requested`, `interrupted`, `resumed` or `ended`.
    event: String,
    /// A JSON object with `task`, `seq`, `position`, `at`, `kind` and, by kind, `data`.
    data: String,
}

/// The header of a follower that reconnects.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "read by the document's macros only")]
struct Last {
    /// The last event that was received.
    #[param(rename = "Last-Event-ID", nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    id: Option<u64>,
}

/// Follow a task's events
///
/// A follower that comes back sends the number of its last event in the header `Last-Event-ID` and misses nothing. The stream ends after `ended`.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "events", params(("id" = String, Path, format = Uuid, description = "The task"), After, Last),
    responses((status = 200, description = "Events", body = Told, content_type = "text/event-stream"), Refused, Absent))]
pub(super) async fn of_task(
    Of(app): Of<App>,
    _: Reader,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let events = app.service.events(&id, last(&headers, after)?).await?;
    Ok(told(events, |event| event.seq))
}

/// Follow the events of all tasks
///
/// Like a task's events, with `position` as `id`; the stream does not end by itself.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(After, Last),
    responses((status = 200, description = "Events", body = Told, content_type = "text/event-stream"), Refused))]
pub(super) async fn of_all(
    Of(app): Of<App>,
    _: Reader,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let events = app.service.all_events(last(&headers, after)?);
    Ok(told(events, |event| event.position))
}

fn last(headers: &HeaderMap, after: Option<u64>) -> Result<u64, Problem> {
    const MOST: u64 = 9_007_199_254_740_991;
    let last = match headers.get("last-event-id") {
        None => after.unwrap_or(0),
        Some(value) => {
            let number = value.to_str().ok().and_then(|value| value.trim().parse().ok());
            number.ok_or_else(|| Problem::unreadable("`Last-Event-ID` is no number of an event"))?
        }
    };
    match last.max(after.unwrap_or(0)) > MOST {
        true => Err(Problem::unreadable("there is no event of so high a number")),
        false => Ok(last),
    }
}

fn told(
    events: EventStream,
    id: impl Fn(&milepost_service::TaskEvent) -> u64 + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let followers = metrics::gauge!("milepost_event_followers");
    followers.increment(1.0);
    let leaving = Leaving(followers);
    let stream = events.filter_map(move |event| {
        let _ = &leaving;
        let told = match event {
            Ok(event) => Event::default().id(id(&event).to_string()).event(event.kind.word()).json_data(&*event).ok(),
            Err(error) => {
                tracing::error!(%error, "a follower's events broke off");
                None
            }
        };
        std::future::ready(told.map(Ok))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE))
}

/// Counts a follower off when its stream is dropped.
struct Leaving(metrics::Gauge);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
