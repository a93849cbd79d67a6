//! The daemon's events, with reconnecting: each once and in order, whatever happens to the connection.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use milepost_service::{EventKind, TaskEvent};
use reqwest::Method;

use super::sse::{Message, Reader};
use super::{Api, ClientError};

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A daemon that is away for longer is not waited for: it restarts within seconds.
const GIVE_UP: Duration = Duration::from_secs(60);
/// The daemon sends something every 15 s; a silence three times as long is a dead connection.
const SILENCE: Duration = Duration::from_secs(45);

/// Whose events.
#[derive(Clone, Debug)]
pub enum Followed {
    /// One task's, from the first; they end after `ended`.
    Task(String),
    /// All tasks'.
    All,
}

/// A stream of events.
pub struct Events {
    api: Api,
    followed: Followed,
    last: u64,
    stream: Option<BoxStream<'static, reqwest::Result<Vec<u8>>>>,
    reader: Reader,
    ready: std::collections::VecDeque<TaskEvent>,
    ended: bool,
    /// Since when nothing has come.
    away: Option<Instant>,
}

impl Events {
    /// The events after a number.
    pub fn new(api: &Api, followed: Followed, after: u64) -> Self {
        let (reader, ready) = (Reader::default(), std::collections::VecDeque::new());
        Self { api: api.clone(), followed, last: after, stream: None, reader, ready, ended: false, away: None }
    }

    /// The next event; `None` after a task's last one. Safe to drop while it waits.
    ///
    /// # Errors
    /// A request that is refused, or a daemon that stays away for a minute.
    pub async fn next(&mut self) -> Result<Option<TaskEvent>, ClientError> {
        let mut wait = FIRST_WAIT;
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.ended = matches!((&self.followed, &event.kind), (Followed::Task(_), EventKind::Ended { .. }));
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let problem = match &mut self.stream {
                None => self.connect().await.err(),
                Some(stream) => match tokio::time::timeout(SILENCE, stream.next()).await {
                    Ok(Some(Ok(bytes))) => {
                        self.take(&bytes)?;
                        None
                    }
                    Ok(Some(Err(error))) => Some(self.api.unreachable(&error)),
                    Ok(None) | Err(_) => {
                        self.stream = None;
                        tokio::time::sleep(FIRST_WAIT).await;
                        None
                    }
                },
            };
            let Some(problem) = problem else { continue };
            self.stream = None;
            let away = *self.away.get_or_insert_with(Instant::now);
            if !problem.is_passing() || away.elapsed() > GIVE_UP {
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
        self.reader = Reader::default();
        self.away = None;
        self.stream = Some(response.bytes_stream().map(|bytes| bytes.map(Into::into)).boxed());
        // A task that ended before the number that was asked for has no event left.
        if let Followed::Task(id) = &self.followed {
            let task = self.api.get::<serde_json::Value>(&["v1", "tasks", id], &[]).await?;
            self.ended = task["ended_at"].is_string() && task["last_seq"].as_u64().is_some_and(|last| last <= self.last);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for Message { id, data } in self.reader.push(bytes) {
            let strange =
                |error: serde_json::Error| ClientError::Strange { address: "the stream of events".into(), reason: error.to_string() };
            let event: TaskEvent = serde_json::from_str(&data).map_err(strange)?;
            self.last = id.unwrap_or(self.last);
            self.ready.push_back(event);
        }
        Ok(())
    }
}
