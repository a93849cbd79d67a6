//! The newest events in memory, for the followers of one task or of all tasks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;

use crate::event::TaskEvent;
use crate::sync::lock;

/// The tasks whose events are followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// The task with this id; its events are numbered by `seq`.
    Task(String),
    /// All tasks; their events are numbered by `position`.
    All,
}

impl Scope {
    /// Returns the event's number within the scope.
    pub(crate) fn number(&self, event: &TaskEvent) -> u64 {
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
    /// Subscribes to the number of the last event.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Returns the events after a number, or `None` if the events in memory do not reach back that far.
    pub(crate) fn after(&self, scope: &Scope, after: u64) -> Option<VecDeque<Arc<TaskEvent>>> {
        let tail = lock(&self.tail);
        let first = scope.number(tail.front()?);
        (first <= after.saturating_add(1)).then(|| tail.iter().filter(|event| scope.number(event) > after).cloned().collect())
    }
}

/// The channels of all scopes that are in use.
pub(crate) struct Broadcast {
    channels: Mutex<HashMap<Scope, Weak<Channel>>>,
    /// The maximum number of events that a channel keeps.
    tail_size: usize,
}

impl Broadcast {
    pub(crate) fn new(tail_size: usize) -> Self {
        Self { channels: Mutex::default(), tail_size: tail_size.max(1) }
    }

    /// Returns the channel of a scope; the channel exists as long as a reference to it does.
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

    /// Sends committed events to the followers. It must be called in the order of the commits.
    pub(crate) fn publish(&self, events: Vec<TaskEvent>) {
        for event in events.into_iter().map(Arc::new) {
            for scope in [Scope::Task(event.task.clone()), Scope::All] {
                let Some(channel) = lock(&self.channels).get(&scope).and_then(Weak::upgrade) else { continue };
                let mut tail = lock(&channel.tail);
                if tail.len() == self.tail_size {
                    tail.pop_front();
                }
                tail.push_back(event.clone());
                drop(tail);
                channel.head.send_replace(scope.number(&event));
            }
        }
    }
}
