//! Connections of the proxy: permitted requests are forwarded, permitted tunnels are opened, all others are answered with 403.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use url::Host;

use super::addresses::is_public;
use super::rules::{Permission, Target};
use super::state::ProxyState;

type Body = BoxBody<Bytes, hyper::Error>;

/// The maximum time to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection and are not forwarded (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a request is not forwarded.
enum Refusal {
    /// The rules forbid the host.
    Blocked { host: String, reason: &'static str },
    /// The request is not a proxy request.
    Malformed(&'static str),
    /// The host cannot be resolved or does not answer.
    Unreachable(String),
}

/// Accepts connections until its task is aborted.
pub(super) async fn serve(listener: TcpListener, state: Arc<ProxyState>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, state.clone());
                state.spawn(connection);
            }
            Err(error) => {
                // Mostly the file descriptors are used up: other connections must end first.
                tracing::warn!(%error, "the egress proxy cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<ProxyState>) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { handle(request, &state).await }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the egress proxy ended early");
    }
}

/// Handles one request. Where the site cannot be reached it returns an error, which closes the connection: an answer of the proxy would
/// look like a page of the site.
async fn handle(request: Request<Incoming>, state: &Arc<ProxyState>) -> Result<Response<Body>, std::io::Error> {
    let done = if request.method() == Method::CONNECT { tunnel(request, state).await } else { forward(request, state).await };
    match done {
        Ok(response) => Ok(response),
        Err(Refusal::Blocked { host, reason }) => {
            state.record_blocked(&host, reason);
            Ok(text_response(StatusCode::FORBIDDEN, format!("egress to {host} is refused: it {reason}\n")))
        }
        Err(Refusal::Malformed(reason)) => Ok(text_response(StatusCode::BAD_REQUEST, format!("{reason}\n"))),
        Err(Refusal::Unreachable(reason)) => Err(std::io::Error::other(reason)),
    }
}

fn text_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Opens a tunnel for a CONNECT request (TLS and WebSockets).
async fn tunnel(request: Request<Incoming>, state: &Arc<ProxyState>) -> Result<Response<Body>, Refusal> {
    let target = target_of(request.uri())?;
    if target.written_port.is_none() {
        return Err(Refusal::Malformed("CONNECT needs host:port"));
    }
    let mut upstream = connect(&target, state).await?;
    let opened = hyper::upgrade::on(request);
    state.spawn(async move {
        if let Ok(client) = opened.await {
            // Either side may end a tunnel at any time, so an error is ignored.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut upstream).await;
        }
    });
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
}

/// Forwards one plain HTTP request over a connection of its own.
async fn forward(mut request: Request<Incoming>, state: &Arc<ProxyState>) -> Result<Response<Body>, Refusal> {
    match request.uri().scheme_str() {
        Some("http") => {}
        None => return Err(Refusal::Malformed("this is a proxy; it wants a whole http address")),
        Some(_) => {
            return Err(Refusal::Blocked {
                host: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
                reason: "is asked for by another scheme than http",
            });
        }
    }
    let target = target_of(request.uri())?;
    let upstream = connect(&target, state).await?;
    let unreachable = |error: hyper::Error| Refusal::Unreachable(format!("{target} broke off: {error}"));
    let (mut sender, link) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await.map_err(unreachable)?;
    state.spawn(async move {
        if let Err(error) = link.await {
            tracing::debug!(%error, "a connection from the egress proxy ended early");
        }
    });
    remove_hop_by_hop_headers(request.headers_mut());
    // The request goes to the host in its address, so the `host` header is set from the address too.
    let name = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let name = HeaderValue::from_str(&name).map_err(|_| Refusal::Malformed("the host is no header value"))?;
    request.headers_mut().insert(HOST, name);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>();
    *request.uri_mut() = path.map_err(|_| Refusal::Malformed("the path cannot be read"))?;
    *request.version_mut() = hyper::Version::HTTP_11;
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    remove_hop_by_hop_headers(response.headers_mut());
    Ok(response.map(BodyExt::boxed))
}

fn target_of(uri: &Uri) -> Result<Target, Refusal> {
    let authority = uri.authority().ok_or(Refusal::Malformed("this is a proxy; it wants a whole http address"))?;
    Target::parse(authority.as_str()).map_err(|reason| Refusal::Blocked { host: authority.to_string(), reason })
}

/// Connects to a target that the rules permit, at an address that they permit; tries the addresses of the name in turn.
async fn connect(target: &Target, state: &ProxyState) -> Result<TcpStream, Refusal> {
    let blocked = |reason| Refusal::Blocked { host: target.to_string(), reason };
    let permission = state.permission(target);
    if permission == Permission::Denied {
        return Err(blocked("is not among the hosts that may be reached"));
    }
    let found: Vec<SocketAddr> = match &target.host {
        Host::Ipv4(address) => vec![(*address, target.port).into()],
        Host::Ipv6(address) => vec![(*address, target.port).into()],
        Host::Domain(name) => match tokio::net::lookup_host((name.as_str(), target.port)).await {
            Ok(found) => found.collect(),
            Err(error) => return Err(Refusal::Unreachable(format!("{name} cannot be resolved: {error}"))),
        },
    };
    let permitted: Vec<SocketAddr> = found.into_iter().filter(|at| permission == Permission::AnyAddress || is_public(at.ip())).collect();
    if permitted.is_empty() {
        return Err(blocked("has a private or local address"));
    }
    let mut last = String::new();
    for address in permitted {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without this, a small write waits for the acknowledgement of the one before (Nagle's algorithm).
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".into(),
        }
    }
    Err(Refusal::Unreachable(format!("{target} cannot be reached: {last}")))
}

/// Removes the headers that belong to one connection: those named by `connection` and those of [`HOP_BY_HOP`].
fn remove_hop_by_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
