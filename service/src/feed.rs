//! Followers: each reads from its own last number on, from the newest events in memory or else from the store; a commit wakes them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::event::{EventKind, TaskEvent};
use crate::service::EventStream;
use crate::store::Store;

/// Events that a follower reads from the store at once.
const BATCH: u32 = 256;

/// Whose events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// One task's, numbered by `seq`.
    Task(String),
    /// All tasks', numbered by `position`.
    All,
}

impl Scope {
    fn number(&self, event: &TaskEvent) -> u64 {
        match self {
            Self::Task(_) => event.seq,
            Self::All => event.position,
        }
    }
}

/// The newest events of a scope, and the number of the last one.
pub(crate) struct Channel {
    head: watch::Sender<u64>,
    tail: Mutex<VecDeque<Arc<TaskEvent>>>,
}

impl Channel {
    /// The events after a number, where the tail reaches back so far.
    fn after(&self, scope: &Scope, after: u64) -> Option<VecDeque<Arc<TaskEvent>>> {
        let tail = lock(&self.tail);
        let first = scope.number(tail.front()?);
        (first <= after.saturating_add(1)).then(|| tail.iter().filter(|event| scope.number(event) > after).cloned().collect())
    }
}

/// Channels of the scopes that somebody holds.
pub(crate) struct Feed {
    channels: Mutex<HashMap<Scope, Weak<Channel>>>,
    size: usize,
}

impl Feed {
    pub(crate) fn new(size: usize) -> Self {
        Self { channels: Mutex::default(), size: size.max(1) }
    }

    /// The channel of a scope; it lasts as long as somebody holds it.
    pub(crate) fn channel(&self, scope: &Scope) -> Arc<Channel> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(scope).and_then(Weak::upgrade) {
            return channel;
        }
        channels.retain(|_, channel| channel.strong_count() > 0);
        let channel = Arc::new(Channel { head: watch::Sender::new(0), tail: Mutex::default() });
        channels.insert(scope.clone(), Arc::downgrade(&channel));
        channel
    }

    /// Tells followers of committed events; called in the order of the commits.
    pub(crate) fn publish(&self, events: Vec<TaskEvent>) {
        for event in events.into_iter().map(Arc::new) {
            for scope in [Scope::Task(event.task.clone()), Scope::All] {
                let Some(channel) = lock(&self.channels).get(&scope).and_then(Weak::upgrade) else { continue };
                let mut tail = lock(&channel.tail);
                if tail.len() == self.size {
                    tail.pop_front();
                }
                tail.push_back(event.clone());
                drop(tail);
                channel.head.send_replace(scope.number(&event));
            }
        }
    }
}

struct Follower {
    store: Arc<Store>,
    scope: Scope,
    channel: Arc<Channel>,
    head: watch::Receiver<u64>,
    after: u64,
    ready: VecDeque<Arc<TaskEvent>>,
    over: bool,
    stop: CancellationToken,
}

/// The events of a scope after a number; ends after a task's last event, and when the service stops.
pub(crate) fn follow(store: Arc<Store>, scope: Scope, after: u64, stop: CancellationToken) -> EventStream {
    let channel = store.feed.channel(&scope);
    let head = channel.head.subscribe();
    let follower = Follower { store, scope, channel, head, after, ready: VecDeque::new(), over: false, stop };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await?;
        Some((next, follower))
    }))
}

impl Follower {
    async fn next(&mut self) -> Option<crate::Result<Arc<TaskEvent>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = self.scope.number(&event);
                self.over = matches!(self.scope, Scope::Task(_)) && matches!(event.kind, EventKind::Ended { .. });
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            // In this order: what comes after the look is news to `changed`.
            self.head.borrow_and_update();
            let stopped = self.stop.is_cancelled();
            self.ready = match self.channel.after(&self.scope, self.after) {
                Some(ready) => ready,
                None => match self.store.events(&self.scope, self.after, BATCH).await {
                    Ok(events) => events.into_iter().map(Arc::new).collect(),
                    Err(error) => {
                        self.over = true;
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

/// Locks a mutex whose data no panic can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
