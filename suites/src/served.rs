//! A site on a loopback port.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use milepost_runtime::{Error, Result};
use tokio::sync::oneshot;
use url::Url;

/// A site on a loopback port; the server stops when this is dropped.
#[derive(Debug)]
pub struct Served {
    /// The site's address, as `http://127.0.0.1:PORT/`.
    pub url: Url,
    // Dropping the sender ends the server; nothing is ever sent.
    _stop: oneshot::Sender<()>,
}

impl Served {
    /// Serves a router on this loopback port (0: a free one).
    pub(crate) async fn start(router: Router, port: u16) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::Environment(format!("the suite cannot listen on 127.0.0.1:{port}: {error}; choose another port, or 0 for a free one"))
        };
        let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(failed)?;
        let url = format!("http://{}/", listener.local_addr().map_err(failed)?);
        let url = Url::parse(&url).map_err(|error| Error::Environment(format!("{url} is no address: {error}")))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = axum::serve(listener, router).with_graceful_shutdown(async {
            // It only ever ends with an error, when the sender is dropped.
            let _ = stopped.await;
        });
        tokio::spawn(served.into_future());
        Ok(Self { url, _stop: stop })
    }
}
