//! The port, TLS, and the limits on connections and open files.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use milepost_runtime::Error as RuntimeError;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::config::{ServeConfig, TlsConfig};
use crate::http::errors::{Error, Result};

/// Opens the port and returns its listener with the address.
///
/// # Errors
/// Other machines could reach the address without `serve.allow_remote`, or the port cannot be listened on.
pub(super) fn bind(config: &ServeConfig) -> Result<(TcpListener, SocketAddr)> {
    if !config.listen.is_loopback() && !config.allow_remote {
        return Err(RuntimeError::BadInput(format!(
            "`serve.listen` is {}, which other machines reach; set `serve.allow_remote: true` if they should, with `serve.tls` or behind a proxy that has it, and list the daemon's name in `serve.allowed_hosts`",
            config.listen
        ))
        .into());
    }
    if !config.listen.is_loopback() && config.tls.is_none() {
        tracing::warn!(listen = %config.listen, "tokens cross the network in the clear unless a proxy before this speaks TLS");
    }
    let unusable = |error| Error::Io { doing: "the port cannot be used", error };
    let requested = SocketAddr::new(config.listen, config.port);
    let listener = TcpListener::bind(requested).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => RuntimeError::Environment(format!(
            "port {} is in use; stop what uses it, or take another with --port (0 takes a free one)",
            config.port
        )),
        _ => {
            RuntimeError::Environment(format!("{requested} cannot be listened on: {error}; choose another `serve.listen` or `serve.port`"))
        }
    })?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    Ok((listener, address))
}

/// Reads the certificate and its key.
///
/// # Errors
/// A file is missing or not in PEM format.
pub(super) async fn certificate(tls: &TlsConfig) -> Result<RustlsConfig> {
    // rustls must be given a cryptography provider when more than one is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = RustlsConfig::from_pem_file(&tls.cert, &tls.key).await;
    let read = read.map_err(|error| {
        let (cert, key) = (tls.cert.display(), tls.key.display());
        RuntimeError::BadInput(format!("`serve.tls`: {cert} and {key} are no certificate with its key (PEM): {error}"))
    })?;
    // HTTP/2 is not offered, because the server supports only HTTP/1.1.
    let mut settings = rustls::ServerConfig::clone(&read.get_inner());
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(settings)))
}

/// Serves until the handle shuts the server down.
///
/// # Errors
/// The listener or the server failed.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    router: Router,
    config: &ServeConfig,
    handle: Handle<SocketAddr>,
) -> Result<()> {
    let acceptor = ConnectionLimit { free: Arc::new(Semaphore::new(config.max_connections)) };
    let header_timeout = Duration::from_secs(config.read_seconds);
    let failed = |error| Error::Io { doing: "the server failed", error };
    macro_rules! run {
        ($server:expr) => {{
            let mut server = $server.handle(handle).http1_only();
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(64 << 10);
            server.serve(router.into_make_service()).await.map_err(failed)
        }};
    }
    match tls {
        None => run!(axum_server::from_tcp(listener).map_err(failed)?.acceptor(acceptor)),
        Some(tls) => run!(axum_server::from_tcp_rustls(listener, tls).map_err(failed)?.map(|tls| tls.acceptor(acceptor))),
    }
}

/// Accepts connections up to the limit and closes those beyond it.
#[derive(Clone)]
struct ConnectionLimit {
    /// One permit for each connection that may still be opened.
    free: Arc<Semaphore>,
}

impl<S: Send + 'static> axum_server::accept::Accept<TcpStream, S> for ConnectionLimit {
    type Stream = CountedStream;
    type Service = S;
    type Future = std::future::Ready<std::io::Result<(CountedStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = match self.free.clone().try_acquire_owned() {
            Ok(permit) => stream.set_nodelay(true).map(|()| (CountedStream { stream, _permit: permit }, service)),
            Err(_) => Err(std::io::Error::other("too many connections")),
        };
        std::future::ready(accepted)
    }
}

/// A connection that holds a permit of the [`ConnectionLimit`] until it is dropped.
struct CountedStream {
    stream: TcpStream,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl tokio::io::AsyncRead for CountedStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for CountedStream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Raises the limit of open files to the maximum, because each follower of events keeps a socket open.
pub(super) fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit and setrlimit read and write the one struct that they are given, which outlives the calls.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !raised {
        tracing::warn!(error = %std::io::Error::last_os_error(), "the limit of open files stays as it is");
    }
}
