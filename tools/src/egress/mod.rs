//! An egress proxy: the only network path of a browser, which leads to the listed hosts alone.
//!
//! An allow-list is safe only when the network enforces it: everything that a page makes a browser load (subresources, sockets, popups)
//! passes through this proxy. The proxy resolves names itself and connects to the very address that it has checked, so that a second,
//! different answer of the name server has no effect (DNS rebinding). It does not inspect the content of tunnels.

mod addresses;
mod forward;
mod rules;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use milepost_runtime::{Error, Result};
use tokio::net::TcpListener;

pub use rules::EgressRules;
pub use state::Blocked;
use state::ProxyState;

/// A forward proxy on loopback. Dropping it stops it and ends its connections.
pub struct EgressProxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
}

impl EgressProxy {
    /// Starts a proxy on a free port of 127.0.0.1. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(rules: EgressRules) -> Result<Self> {
        let failed = |error| Error::Environment(format!("the egress proxy cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(ProxyState::new(rules));
        state.spawn(forward::serve(listener, state.clone()));
        Ok(Self { address, state })
    }

    /// The address at which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the rules, for the next task or after a person has approved another host. Open connections stay open.
    pub fn set_rules(&self, rules: EgressRules) {
        self.state.set_rules(rules);
    }

    /// Returns the refused connections, oldest first.
    pub fn blocked(&self) -> Vec<Blocked> {
        self.state.blocked()
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.state.stop();
    }
}
