//! The state that all connections of a proxy share: the rules, the refused connections and the running tasks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::rules::{EgressRules, Permission, Target};

/// The maximum number of refused connections that are remembered; the oldest are dropped first.
const MAX_BLOCKED: usize = 1_000;

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Host and port, as in `evil.example:443`.
    pub host: String,
    /// The time of the refusal.
    pub at: SystemTime,
    /// The reason, a predicate such as "has a private or local address".
    pub reason: String,
}

/// The state that all connections of a proxy share.
pub(super) struct ProxyState {
    rules: RwLock<EgressRules>,
    blocked: Mutex<VecDeque<Blocked>>,
    /// The tasks of the listener, the connections and the tunnels; `None` after the proxy was dropped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl ProxyState {
    /// A proxy with these rules, without tasks.
    pub(super) fn new(rules: EgressRules) -> Self {
        Self { rules: RwLock::new(rules), blocked: Mutex::default(), tasks: Mutex::new(Some(JoinSet::new())) }
    }

    /// Replaces the rules.
    pub(super) fn set_rules(&self, rules: EgressRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Returns the connections that the rules permit to a target.
    pub(super) fn permission(&self, target: &Target) -> Permission {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).permission(target)
    }

    /// Runs a task until the proxy is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = lock(&self.tasks).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Aborts all tasks; those spawned from now on do not run.
    pub(super) fn stop(&self) {
        // Dropping the set aborts its tasks.
        drop(lock(&self.tasks).take());
    }

    /// Returns the refused connections, oldest first.
    pub(super) fn blocked(&self) -> Vec<Blocked> {
        lock(&self.blocked).iter().cloned().collect()
    }

    /// Records a refused connection and logs it.
    pub(super) fn record_blocked(&self, host: &str, reason: &str) {
        let host: String = host.chars().take(260).collect();
        tracing::info!(host, reason, "egress refused");
        let mut blocked = lock(&self.blocked);
        if blocked.len() == MAX_BLOCKED {
            blocked.pop_front();
        }
        blocked.push_back(Blocked { host, at: SystemTime::now(), reason: reason.to_owned() });
    }
}

/// Locks a mutex even if another connection panicked while it held the lock: the collections behind these locks stay consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
