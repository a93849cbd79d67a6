//! Signing in with the token once: a cookie for a person's browser, with a CSRF token for every change.

use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::Deserialize;
use utoipa::ToSchema;

use super::refusals::{Absent, Refused, Unchanged};
use crate::serve::App;
use crate::serve::auth::{COOKIE, Reader, Session};
use crate::serve::payload::Payload;
use crate::serve::problem::Problem;

/// A token to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The token.
    #[schema(max_length = 512)]
    token: String,
}

/// Sign in
#[utoipa::path(post, path = "/session", tag = "session", request_body = SignIn, security(()), responses(
    (status = 200, description = "Signed in; the cookie is set", body = Session, headers(("Set-Cookie" = String, description = "The session"))),
    Refused, Unchanged))]
pub(super) async fn sign_in(
    Of(app): Of<App>,
    jar: CookieJar,
    Payload(SignIn { token }): Payload<SignIn>,
) -> Result<(CookieJar, Json<Session>), Problem> {
    let Some((value, session)) = app.sessions.sign_in(&app.tokens, token.trim(), app.config.serve.session_hours) else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "this token is not known, or it has expired or was replaced"));
    };
    Ok((jar.add(cookie(&app, value)), Json(session)))
}

/// Who is signed in, with the CSRF token
#[utoipa::path(get, path = "/session", tag = "session", responses(
    (status = 200, description = "The session", body = Session), Refused, Absent))]
pub(super) async fn show(Of(app): Of<App>, _: Reader, jar: CookieJar) -> Result<Json<Session>, Problem> {
    let session = jar.get(COOKIE).and_then(|cookie| app.sessions.session(&app.tokens, cookie.value()));
    session.map(Json).ok_or_else(|| Problem::missing("this request came with a token and not by cookie"))
}

/// Sign out
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204, description = "Signed out"), Refused, Unchanged))]
pub(super) async fn sign_out(Of(app): Of<App>, _: Reader, jar: CookieJar) -> (StatusCode, CookieJar) {
    if let Some(cookie) = jar.get(COOKIE) {
        app.sessions.sign_out(cookie.value());
    }
    (StatusCode::NO_CONTENT, jar.remove(cookie(&app, String::new())))
}

/// The cookie: no script reads it, and no other site's page sends it.
fn cookie(app: &App, value: String) -> Cookie<'static> {
    Cookie::build((COOKIE, value)).http_only(true).same_site(SameSite::Strict).secure(app.config.serve.tls.is_some()).path("/").build()
}
