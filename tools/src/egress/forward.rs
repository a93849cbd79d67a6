//! Connections of the proxy: requests are forwarded, tunnels opened, the rest answered 403.

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

use super::Shared;
use super::rules::{Permit, Target, is_public};

type Body = BoxBody<Bytes, hyper::Error>;

/// Longest wait for a connection to one address.
const CONNECT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
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

/// Why a request goes nowhere.
enum Refusal {
    /// The rules forbid it.
    Blocked { host: String, reason: &'static str },
    /// It is no proxy request.
    Malformed(&'static str),
    /// The host does not answer.
    Unreachable(String),
}

/// Accepts connections until it is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, shared.clone());
                shared.spawn(connection);
            }
            Err(error) => {
                // Out of file descriptors, mostly: others must end first.
                tracing::warn!(%error, "the egress proxy cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { answer(request, &shared).await }
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

/// The answer to a request; an error, which closes the connection, where the site cannot be reached: an answer of ours would look like a page of the site.
async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>, std::io::Error> {
    let done = if request.method() == Method::CONNECT { tunnel(request, shared).await } else { forward(request, shared).await };
    match done {
        Ok(response) => Ok(response),
        Err(Refusal::Blocked { host, reason }) => {
            shared.block(&host, reason);
            Ok(plain(StatusCode::FORBIDDEN, format!("egress to {host} is refused: it {reason}\n")))
        }
        Err(Refusal::Malformed(reason)) => Ok(plain(StatusCode::BAD_REQUEST, format!("{reason}\n"))),
        Err(Refusal::Unreachable(reason)) => Err(std::io::Error::other(reason)),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Opens a tunnel (CONNECT: TLS and WebSockets).
async fn tunnel(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>, Refusal> {
    let target = target_of(request.uri())?;
    if target.written_port.is_none() {
        return Err(Refusal::Malformed("CONNECT needs host:port"));
    }
    let mut upstream = connect(&target, shared).await?;
    let opened = hyper::upgrade::on(request);
    shared.spawn(async move {
        if let Ok(client) = opened.await {
            // Either side may end a tunnel at any time.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut upstream).await;
        }
    });
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
}

/// Forwards one plain HTTP request over a connection of its own.
async fn forward(mut request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>, Refusal> {
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
    let upstream = connect(&target, shared).await?;
    let unreachable = |error: hyper::Error| Refusal::Unreachable(format!("{target} broke off: {error}"));
    let (mut sender, link) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await.map_err(unreachable)?;
    shared.spawn(async move {
        if let Err(error) = link.await {
            tracing::debug!(%error, "a connection from the egress proxy ended early");
        }
    });
    strip(request.headers_mut());
    // The address decides where a request goes, so it also decides which host it names.
    let name = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let name = HeaderValue::from_str(&name).map_err(|_| Refusal::Malformed("the host is no header value"))?;
    request.headers_mut().insert(HOST, name);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>();
    *request.uri_mut() = path.map_err(|_| Refusal::Malformed("the path cannot be read"))?;
    *request.version_mut() = hyper::Version::HTTP_11;
    let mut response = sender.send_request(request).await.map_err(unreachable)?;
    strip(response.headers_mut());
    Ok(response.map(BodyExt::boxed))
}

fn target_of(uri: &Uri) -> Result<Target, Refusal> {
    let authority = uri.authority().ok_or(Refusal::Malformed("this is a proxy; it wants a whole http address"))?;
    Target::parse(authority.as_str()).map_err(|reason| Refusal::Blocked { host: authority.to_string(), reason })
}

/// Connects to a target that the rules permit, at an address that they permit.
async fn connect(target: &Target, shared: &Shared) -> Result<TcpStream, Refusal> {
    let blocked = |reason| Refusal::Blocked { host: target.to_string(), reason };
    let permit = shared.permit(target);
    if permit == Permit::No {
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
    let permitted: Vec<SocketAddr> = found.into_iter().filter(|at| permit == Permit::Anywhere || is_public(at.ip())).collect();
    if permitted.is_empty() {
        return Err(blocked("has a private or local address"));
    }
    let mut last = String::new();
    for address in permitted {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small writes must not wait for each other.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".into(),
        }
    }
    Err(Refusal::Unreachable(format!("{target} cannot be reached: {last}")))
}

/// Takes out what belongs to one connection.
fn strip(headers: &mut HeaderMap) {
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
