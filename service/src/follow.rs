//! Streams of events: each follower reads the events after the last one that it has returned, from memory or else from the store, and is
//! woken by commits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broadcast::{Channel, Scope};
use crate::error::Result;
use crate::event::{EventKind, TaskEvent};
use crate::store::Store;

/// The maximum number of events that a follower reads from the store at once.
const BATCH: u32 = 256;

/// A stream of events; it ends after an error.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Arc<TaskEvent>>> + Send>>;

/// The state of one event stream.
struct Follower {
    store: Arc<Store>,
    scope: Scope,
    channel: Arc<Channel>,
    head: watch::Receiver<u64>,
    /// Number of the last event that was returned.
    after: u64,
    /// Events that were read and are still to be returned.
    ready: VecDeque<Arc<TaskEvent>>,
    ended: bool,
    stop: CancellationToken,
}

/// Returns the events of a scope after a number. The stream ends after a task's last event, and when the service stops.
pub(crate) fn follow(store: Arc<Store>, scope: Scope, after: u64, stop: CancellationToken) -> EventStream {
    let channel = store.broadcast.channel(&scope);
    let head = channel.subscribe();
    let follower = Follower { store, scope, channel, head, after, ready: VecDeque::new(), ended: false, stop };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await?;
        Some((next, follower))
    }))
}

impl Follower {
    /// Returns the next event, waiting for it if necessary, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Result<Arc<TaskEvent>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = self.scope.number(&event);
                self.ended = matches!(self.scope, Scope::Task(_)) && matches!(event.kind, EventKind::Ended { .. });
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            // The head is marked as seen before reading, so that `changed` below reports every event that is published after this line.
            self.head.borrow_and_update();
            let stopped = self.stop.is_cancelled();
            self.ready = match self.channel.after(&self.scope, self.after) {
                Some(ready) => ready,
                None => match self.store.events(&self.scope, self.after, BATCH).await {
                    Ok(events) => events.into_iter().map(Arc::new).collect(),
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                },
            };
            if self.ready.is_empty() {
                if stopped {
                    return None;
                }
                tokio::select! {
                    changed = self.head.changed() => changed.ok()?,
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }
}
