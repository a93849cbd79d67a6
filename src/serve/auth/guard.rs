//! The guard before every route: host, origin, credentials, CSRF, content type, size. What it lets in carries a [`Caller`].

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;

use super::caller::Caller;
use super::session::{COOKIE, CSRF_HEADER};
use crate::serve::App;
use crate::serve::problem::Problem;

/// What needs no token: signing in has it in its body.
const OPEN: [(&Method, &str); 5] = [
    (&Method::GET, "/healthz"),
    (&Method::HEAD, "/healthz"),
    (&Method::GET, "/readyz"),
    (&Method::HEAD, "/readyz"),
    (&Method::POST, "/session"),
];

/// Whether requests of this method may change something.
pub fn may_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Lets a request in or refuses it.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (listed, checked) = match enter(&app, &request) {
        Ok(entered) => entered,
        Err(problem) => return problem.into_response(),
    };
    let preflight = request.method() == Method::OPTIONS && listed.is_some();
    let mut response = match (preflight, checked) {
        (true, _) => StatusCode::NO_CONTENT.into_response(),
        (_, Err(problem)) if problem.status == 401 && wants_page(&request) => sign_in(&app, problem),
        (_, Err(problem)) => problem.into_response(),
        (_, Ok(caller)) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
    };
    if let Some(origin) = listed.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, last-event-id"));
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

type Entered = (Option<String>, Result<Option<Caller>, Problem>);

/// Host and origin; then a listed foreign origin, and who asks.
fn enter(app: &App, request: &Request) -> Result<Entered, Problem> {
    let headers = request.headers();
    let host = app.doors.host(headers, request.uri())?;
    let scheme = if app.config.serve.tls.is_some() { "https" } else { "http" };
    let listed = app.doors.origin(headers, &host, scheme)?;
    Ok((listed, admit(app, request)))
}

fn admit(app: &App, request: &Request) -> Result<Option<Caller>, Problem> {
    let (method, headers) = (request.method(), request.headers());
    let open = OPEN.iter().any(|(known, path)| **known == *method && *path == request.uri().path());
    let caller = match open {
        true => None,
        false => Some(identify(app, method, headers)?),
    };
    check_body(method, headers, app.config.serve.body_limit)?;
    Ok(caller)
}

/// Who asks: by bearer token, else by cookie, whose changes carry the CSRF token.
fn identify(app: &App, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
    let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = given.next() {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token = token.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let caller = token.filter(|_| given.next().is_none()).and_then(|token| app.tokens.caller(token));
        return caller
            .ok_or_else(|| refused("this token is not known, or it has expired or was replaced; `milepost token list` shows the names"));
    }
    let jar = CookieJar::from_headers(headers);
    let Some(cookie) = jar.get(COOKIE) else {
        return Err(refused("a token is needed: `Authorization: Bearer …`, with what the daemon's token file holds"));
    };
    let Some(session) = app.sessions.session(&app.tokens, cookie.value()) else {
        return Err(refused("you are signed out; sign in again with the token"));
    };
    let csrf = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if may_change(method) && !session.vouches(csrf) {
        return Err(Problem::forbidden("a change by cookie carries the session's CSRF token in `X-CSRF-Token`; `GET /session` tells it"));
    }
    Ok(session.caller())
}

/// Only JSON comes in, and not too much of it.
fn check_body(method: &Method, headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().ok().and_then(|value| value.parse::<u64>().ok()));
    match length {
        Some(None) => return Err(Problem::unreadable("the `Content-Length` cannot be read")),
        Some(Some(length)) if length > limit as u64 => return Err(too_large(limit)),
        _ => {}
    }
    let has_body = length.flatten().is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    let kind = headers.get(header::CONTENT_TYPE);
    if may_change(method) && (has_body || kind.is_some()) && !kind.and_then(|kind| kind.to_str().ok()).is_some_and(is_json) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only `Content-Type: application/json` is taken"));
    }
    Ok(())
}

/// 413.
pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes (`serve.body_limit`)"))
}

fn is_json(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| parameter.to_ascii_lowercase().replace('"', "") == "charset=utf-8")
}

fn wants_page(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// The page to sign in on, where there is one; its status is that of the refusal.
fn sign_in(app: &App, problem: Problem) -> Response {
    match app.sign_in_page {
        None => problem.into_response(),
        Some(page) => {
            let mut response = (StatusCode::UNAUTHORIZED, page()).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"milepost\""));
            response
        }
    }
}
