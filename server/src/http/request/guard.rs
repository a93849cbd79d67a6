//! Checks every request before its route runs: host, origin, credentials, CSRF token, content type and size. A request that is let through
//! carries its [`Caller`] as an extension.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;

use crate::http::auth::{COOKIE, CSRF_HEADER, Caller};
use crate::http::errors::Problem;
use crate::http::state::App;

/// The routes that need no token in the request's head; signing in has the token in its body.
const ROUTES_WITHOUT_TOKEN: [(&Method, &str); 5] = [
    (&Method::GET, "/healthz"),
    (&Method::HEAD, "/healthz"),
    (&Method::GET, "/readyz"),
    (&Method::HEAD, "/readyz"),
    (&Method::POST, "/session"),
];

/// Returns true if requests with this method may change something.
fn may_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Runs the route if the request passes all checks; refuses it otherwise.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (foreign_origin, caller) = match check(&app, &request) {
        Ok(checked) => checked,
        Err(problem) => return problem.into_response(),
    };
    let preflight = request.method() == Method::OPTIONS && foreign_origin.is_some();
    let mut response = match (preflight, caller) {
        (true, _) => StatusCode::NO_CONTENT.into_response(),
        (_, Err(problem)) if problem.status == 401 && accepts_html(&request) => sign_in_page(&app),
        (_, Err(problem)) => problem.into_response(),
        (_, Ok(caller)) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
    };
    if let Some(origin) = foreign_origin.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, last-event-id"));
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// The allowed foreign origin that a request came from, if any, and its caller or the problem with its credentials or body.
type Checked = (Option<String>, Result<Option<Caller>, Problem>);

/// Checks the host and origin, whose refusal is an error, and then the credentials and the body. Those are refused in the returned value, because
/// that response too must carry the headers that let the foreign origin's page read it.
fn check(app: &App, request: &Request) -> Result<Checked, Problem> {
    let headers = request.headers();
    let host = app.host_and_origin_policy.check_host(headers, request.uri())?;
    let scheme = if app.settings.serve.tls.is_some() { "https" } else { "http" };
    let foreign_origin = app.host_and_origin_policy.check_origin(headers, &host, scheme)?;
    Ok((foreign_origin, check_caller_and_body(app, request)))
}

/// Authenticates the caller, unless the route needs no token, and checks the headers of the body.
fn check_caller_and_body(app: &App, request: &Request) -> Result<Option<Caller>, Problem> {
    let (method, headers) = (request.method(), request.headers());
    let without_token = ROUTES_WITHOUT_TOKEN.iter().any(|(listed, path)| **listed == *method && *path == request.uri().path());
    let caller = match without_token {
        true => None,
        false => Some(authenticate(app, method, headers)?),
    };
    check_body(method, headers, app.settings.serve.body_limit)?;
    Ok(caller)
}

/// Returns the caller of the bearer token or, without one, of the session cookie. With a cookie, a request that may change something must carry
/// the session's CSRF token.
fn authenticate(app: &App, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
    let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = authorizations.next() {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token = token.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let caller = token.filter(|_| authorizations.next().is_none()).and_then(|token| app.tokens.caller(token));
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
    if may_change(method) && !session.csrf_matches(csrf) {
        return Err(Problem::forbidden("a change by cookie carries the session's CSRF token in `X-CSRF-Token`; `GET /session` tells it"));
    }
    Ok(session.caller())
}

/// Refuses a body that is not JSON by its content type, or that is longer than `limit` bytes by its `Content-Length`.
fn check_body(method: &Method, headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().ok().and_then(|value| value.parse::<u64>().ok()));
    match length {
        Some(None) => return Err(Problem::unreadable("the `Content-Length` cannot be read")),
        Some(Some(length)) if length > limit as u64 => return Err(Problem::too_large(limit)),
        _ => {}
    }
    let has_body = length.flatten().is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    let kind = headers.get(header::CONTENT_TYPE);
    if may_change(method) && (has_body || kind.is_some()) && !kind.and_then(|kind| kind.to_str().ok()).is_some_and(is_json) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only `Content-Type: application/json` is taken"));
    }
    Ok(())
}

/// Returns true for the content type `application/json`, with no parameter other than `charset=utf-8`.
fn is_json(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| parameter.to_ascii_lowercase().replace('"', "") == "charset=utf-8")
}

/// Returns true for a GET request that accepts HTML, as browsers send it for a page.
fn accepts_html(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// Returns the sign-in page with status 401.
fn sign_in_page(app: &App) -> Response {
    let mut response = (StatusCode::UNAUTHORIZED, (app.sign_in_page)()).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"milepost\""));
    response
}
