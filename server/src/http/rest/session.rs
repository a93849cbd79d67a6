//! Sessions: a browser signs in once with the token and gets a cookie, with a CSRF token for its changes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::auth::{COOKIE, Reader, Session};
use crate::http::errors::{CommonErrors, NotFound, Problem, WriteErrors};
use crate::http::request::payload::Payload;
use crate::http::state::App;

/// The token to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The token.
    #[schema(max_length = 512)]
    token: String,
}

/// Sign in
#[utoipa::path(post, path = "/session", tag = "session", request_body = SignIn, security(()), responses(
    (status = 200, description = "The session; the response sets its cookie", body = Session,
        headers(("Set-Cookie" = String, description = "The session's cookie"))),
    CommonErrors, WriteErrors))]
pub(super) async fn sign_in(
    State(app): State<App>,
    jar: CookieJar,
    Payload(SignIn { token }): Payload<SignIn>,
) -> Result<(CookieJar, Json<Session>), Problem> {
    let Some((value, session)) = app.sessions.sign_in(&app.tokens, token.trim(), app.settings.serve.session_hours) else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not known, or it has expired or was replaced"));
    };
    Ok((jar.add(cookie(&app, value)), Json(session)))
}

/// Get the session that the cookie belongs to, with its CSRF token
#[utoipa::path(get, path = "/session", tag = "session", responses(
    (status = 200, description = "The session", body = Session), CommonErrors, NotFound))]
pub(super) async fn show(State(app): State<App>, _: Reader, jar: CookieJar) -> Result<Json<Session>, Problem> {
    let session = jar.get(COOKIE).and_then(|cookie| app.sessions.session(&app.tokens, cookie.value()));
    session.map(Json).ok_or_else(|| Problem::missing("this request came with a token and not by cookie"))
}

/// Sign out
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204, description = "Signed out"), CommonErrors, WriteErrors))]
pub(super) async fn sign_out(State(app): State<App>, _: Reader, jar: CookieJar) -> (StatusCode, CookieJar) {
    if let Some(cookie) = jar.get(COOKIE) {
        app.sessions.sign_out(cookie.value());
    }
    (StatusCode::NO_CONTENT, jar.remove(cookie(&app, String::new())))
}

/// Returns the session cookie with this value. Scripts cannot read the cookie, and pages of other sites do not send it.
fn cookie(app: &App, value: String) -> Cookie<'static> {
    Cookie::build((COOKIE, value)).http_only(true).same_site(SameSite::Strict).secure(app.settings.serve.tls.is_some()).path("/").build()
}
