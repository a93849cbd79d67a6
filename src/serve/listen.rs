//! The listening side: the port, TLS, and bounds on connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use milepost_runtime::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::config::{ServeConfig, TlsConfig};

/// Takes the port.
///
/// # Errors
/// An address that other machines reach without being allowed to, or a port that is in use.
pub(super) fn bind(config: &ServeConfig) -> Result<(TcpListener, SocketAddr)> {
    if !config.listen.is_loopback() && !config.allow_remote {
        bail!(Error::BadInput(format!(
            "`serve.listen` is {}, which other machines reach; set `serve.allow_remote: true` if they should, with `serve.tls` or behind a proxy that has it, and list the daemon's name in `serve.allowed_hosts`",
            config.listen
        )));
    }
    if !config.listen.is_loopback() && config.tls.is_none() {
        tracing::warn!(listen = %config.listen, "tokens cross the network in the clear unless a proxy before this speaks TLS");
    }
    let wanted = SocketAddr::new(config.listen, config.port);
    let listener = TcpListener::bind(wanted).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::Environment(format!(
            "port {} is in use; stop what uses it, or take another with --port (0 takes a free one)",
            config.port
        )),
        _ => Error::Environment(format!("{wanted} cannot be listened on: {error}; choose another `serve.listen` or `serve.port`")),
    })?;
    listener.set_nonblocking(true).context("the port cannot be used")?;
    let address = listener.local_addr().context("the port cannot be used")?;
    Ok((listener, address))
}

/// The certificate, read before anything else starts.
///
/// # Errors
/// Files that are not there or no PEM.
pub(super) async fn certificate(tls: &TlsConfig) -> Result<RustlsConfig> {
    // Two providers are linked; without a choice rustls refuses to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = RustlsConfig::from_pem_file(&tls.cert, &tls.key).await;
    let read = read.map_err(|error| {
        let (cert, key) = (tls.cert.display(), tls.key.display());
        Error::BadInput(format!("`serve.tls`: {cert} and {key} are no certificate with its key (PEM): {error}"))
    })?;
    // No HTTP/2 is offered, since none is spoken.
    let mut settings = rustls::ServerConfig::clone(&read.get_inner());
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(settings)))
}

/// Serves until the handle says otherwise.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    router: Router,
    config: &ServeConfig,
    handle: Handle<SocketAddr>,
) -> Result<()> {
    let places = Places { free: Arc::new(Semaphore::new(config.max_connections)) };
    let head = Duration::from_secs(config.read_seconds);
    macro_rules! run {
        ($server:expr) => {{
            let mut server = $server.handle(handle).http1_only();
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(64 << 10);
            server.serve(router.into_make_service()).await.context("the server failed")
        }};
    }
    match tls {
        None => run!(axum_server::from_tcp(listener)?.acceptor(places)),
        Some(tls) => run!(axum_server::from_tcp_rustls(listener, tls)?.map(|tls| tls.acceptor(places))),
    }
}

/// Closes connections beyond the limit instead of keeping them.
#[derive(Clone)]
struct Places {
    free: Arc<Semaphore>,
}

impl<S: Send + 'static> axum_server::accept::Accept<TcpStream, S> for Places {
    type Stream = Placed;
    type Service = S;
    type Future = std::future::Ready<std::io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let placed = match self.free.clone().try_acquire_owned() {
            Ok(place) => stream.set_nodelay(true).map(|()| (Placed { stream, _place: place }, service)),
            Err(_) => Err(std::io::Error::other("too many connections")),
        };
        std::future::ready(placed)
    }
}

/// A connection with its place.
struct Placed {
    stream: TcpStream,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl tokio::io::AsyncRead for Placed {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Placed {
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

/// Each follower of events keeps a file open: takes as many as the system gives.
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
