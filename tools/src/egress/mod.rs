//! An egress proxy: the only way out of a browser, open to listed hosts alone.
//!
//! Allow-lists hold at the network or not at all: what a page makes a browser do (subresources, sockets, popups) passes here.
//! The proxy resolves names itself and connects to the very address that it judged, so that a name cannot change its mind.
//! A tunnel's content is not looked into.

mod forward;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use milepost_runtime::{Error, Result};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use rules::EgressRules;

/// Most blocks that are remembered; older ones are forgotten first.
const MAX_BLOCKED: usize = 1_000;

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Host and port, `evil.example:443`.
    pub host: String,
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: String,
}

/// A forward proxy on loopback; it stops, and its connections end, when it is dropped.
pub struct EgressProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections of a proxy share.
struct Shared {
    rules: RwLock<EgressRules>,
    blocked: Mutex<VecDeque<Blocked>>,
    /// The listener, connections and tunnels; `None` once the proxy is gone.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl EgressProxy {
    /// Starts a proxy on a free port of 127.0.0.1. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port could be opened.
    pub async fn start(rules: EgressRules) -> Result<Self> {
        let failed = |error| Error::Environment(format!("the egress proxy cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { rules: RwLock::new(rules), blocked: Mutex::default(), tasks: Mutex::new(Some(JoinSet::new())) });
        shared.spawn(forward::serve(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens it to these hosts from now on, and to no others: for the next task, or where a person approved one more. Connections that
    /// are open stay so.
    pub fn set_rules(&self, rules: EgressRules) {
        *self.shared.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// What was refused, oldest first.
    pub fn blocked(&self) -> Vec<Blocked> {
        lock(&self.shared.blocked).iter().cloned().collect()
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        // Dropping the set aborts its tasks.
        drop(lock(&self.shared.tasks).take());
    }
}

impl Shared {
    fn permit(&self, target: &rules::Target) -> rules::Permit {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).permit(target)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = lock(&self.tasks).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    fn block(&self, host: &str, reason: &str) {
        let host: String = host.chars().take(260).collect();
        tracing::info!(host, reason, "egress refused");
        let mut blocked = lock(&self.blocked);
        if blocked.len() == MAX_BLOCKED {
            blocked.pop_front();
        }
        blocked.push_back(Blocked { host, at: SystemTime::now(), reason: reason.to_owned() });
    }
}

/// A panic in another connection leaves these plain collections whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
