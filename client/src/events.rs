//! The daemon's events. The stream reconnects by itself, and returns each event once and in order.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Api;
use crate::error::ClientError;

/// The wait before the first attempt to connect again; it doubles with each attempt.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two attempts to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long the stream tries to connect before it gives up; a daemon restarts within seconds.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long a connection may be silent before it counts as dead; the daemon sends something every 15 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// U+FEFF in UTF-8, which a stream of events may begin with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An event of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The event's position among the events of all tasks; ascending, with gaps.
    pub position: u64,
    /// The task's id.
    pub task: String,
    /// The event's number among those of its task, from 1 without a gap.
    pub seq: u64,
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The kind of the event, as one word such as `step`, `approval_requested` or `ended`.
    pub kind: String,
    /// The details, which depend on `kind`; the API's document lists them.
    #[serde(default)]
    pub data: Value,
}

impl Event {
    /// Returns whether no event of its task follows.
    pub fn is_last(&self) -> bool {
        self.kind == "ended"
    }
}

/// The tasks whose events are followed.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The events of one task, by its id; they end after `ended`.
    Task(String),
    /// The events of all tasks.
    All,
}

/// A message of the stream, or the error that broke the stream.
type Message = Result<eventsource_stream::Event, EventStreamError<std::io::Error>>;

/// A stream of events.
pub struct Events {
    api: Api,
    followed: Followed,
    /// The number of the last event that was received.
    last: u64,
    stream: Option<BoxStream<'static, Message>>,
    ended: bool,
    /// The time since which the daemon has not been reachable.
    unreachable_since: Option<Instant>,
}

impl Events {
    /// Follows events after this number; 0 begins with the first.
    pub fn new(api: &Api, followed: Followed, after: u64) -> Self {
        Self { api: api.clone(), followed, last: after, stream: None, ended: false, unreachable_since: None }
    }

    /// Waits for the next event; returns `None` after the last one of a task. The future may be dropped while it waits; no event is lost.
    ///
    /// # Errors
    /// The request is refused, or the daemon is not reachable for a minute.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        let mut wait = FIRST_WAIT;
        loop {
            if self.ended {
                return Ok(None);
            }
            let problem = match &mut self.stream {
                None => self.connect().await.err(),
                Some(stream) => match stream.next().await {
                    Some(Ok(message)) => return self.read(&message).map(Some),
                    Some(Err(EventStreamError::Transport(error))) if error.kind() != std::io::ErrorKind::TimedOut => {
                        Some(self.api.unreachable(&error))
                    }
                    // The daemon closed the connection, or it is dead.
                    Some(Err(_)) | None => {
                        self.stream = None;
                        tokio::time::sleep(FIRST_WAIT).await;
                        None
                    }
                },
            };
            let Some(problem) = problem else { continue };
            self.stream = None;
            let since = *self.unreachable_since.get_or_insert_with(Instant::now);
            if !problem.is_transient() || since.elapsed() > GIVE_UP {
                return Err(problem);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let path: &[&str] = match &self.followed {
            Followed::Task(id) => &["v1", "tasks", id, "events"],
            Followed::All => &["v1", "events"],
        };
        let request = self.api.request(Method::GET, path).header("Accept", "text/event-stream").header("Last-Event-ID", self.last);
        let response = self.api.send(request).await?;
        self.unreachable_since = None;
        self.stream = Some(messages(with_idle_timeout(response)));
        // A task that ended before this number has no event left, and its stream stays silent.
        if let Followed::Task(id) = &self.followed {
            let task = self.api.get::<Value>(&["v1", "tasks", id], &[]).await?;
            self.ended = task["ended_at"].is_string() && task["last_seq"].as_u64().is_some_and(|last| last <= self.last);
        }
        Ok(())
    }

    fn read(&mut self, message: &eventsource_stream::Event) -> Result<Event, ClientError> {
        let event: Event = serde_json::from_str(&message.data)
            .map_err(|error| ClientError::UnexpectedAnswer { address: "the stream of events".into(), reason: error.to_string() })?;
        self.last = message.id.parse().unwrap_or(self.last);
        self.ended = matches!(self.followed, Followed::Task(_)) && event.is_last();
        Ok(event)
    }
}

/// Parses server-sent events (WHATWG HTML, 9.2.6). An event is complete however its bytes arrive.
fn messages(bytes: impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static) -> BoxStream<'static, Message> {
    without_byte_order_mark(bytes).eventsource().boxed()
}

/// Removes a byte order mark from the beginning of a stream: `eventsource-stream` 0.2.3 panics at one, because it skips one byte of its three.
fn without_byte_order_mark(
    bytes: impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static,
) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send {
    // The first bytes, as long as they may be the beginning of a mark.
    let mut first = Some(Vec::new());
    bytes.map_ok(move |chunk| {
        let Some(mut start) = first.take() else { return chunk };
        start.extend(chunk);
        if start.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&start) {
            first = Some(start);
            return Vec::new();
        }
        start.strip_prefix(BYTE_ORDER_MARK).map(<[u8]>::to_vec).unwrap_or(start)
    })
}

/// Reads the bytes of a response; a silence longer than [`IDLE_TIMEOUT`] is an error of the kind `TimedOut`.
fn with_idle_timeout(response: Response) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    unfold(Some(response.bytes_stream().boxed()), |bytes| async {
        let mut bytes = bytes?;
        match tokio::time::timeout(IDLE_TIMEOUT, bytes.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk.to_vec()), Some(bytes))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::Error::from(std::io::ErrorKind::TimedOut)), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;

    use super::*;

    #[tokio::test]
    async fn events_are_complete_however_their_bytes_arrive() {
        let stream =
            "\u{feff}: hello\n\nid: 7\nevent: step\ndata: {\"a\":\ndata: \"é\"}\n\n: alive\r\n\r\nid:8\r\ndata:x\r\n\r\nid: 9\ndata: cut";
        let expected = [("7".to_owned(), "{\"a\":\n\"é\"}".to_owned()), ("8".to_owned(), "x".to_owned())];
        for size in [1, 2, 3, 7, 1000] {
            let chunks: Vec<_> = stream.as_bytes().chunks(size).map(|bytes| Ok(bytes.to_vec())).collect();
            let read: Vec<Message> = messages(iter(chunks)).collect().await;
            let read: Vec<(String, String)> =
                read.into_iter().map(|message| message.unwrap()).map(|message| (message.id, message.data)).collect();
            assert_eq!(read, expected, "in chunks of {size} bytes");
        }
    }
}
