//! What every page has: who looks at it, its policy, and how an error looks.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::CookieJar;
use minijinja::{Value, context};
use serde::Serialize;

use super::templates::render;
use crate::serve::App;
use crate::serve::auth::{COOKIE, Reader, Scope};
use crate::serve::problem::Problem;

/// What a page may load: this daemon's own files, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Who looks at a page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Viewer {
    name: String,
    /// Whether they may hand in and decide.
    may_run: bool,
    /// Whether they may change what serves.
    may_admin: bool,
    /// What their changes carry.
    csrf: Option<String>,
}

impl FromRequestParts<App> for Viewer {
    type Rejection = Oops;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Oops> {
        let Reader(caller) = Reader::from_request_parts(parts, app).await?;
        let jar = CookieJar::from_headers(&parts.headers);
        let session = jar.get(COOKIE).and_then(|cookie| app.sessions.session(&app.tokens, cookie.value()));
        Ok(Self {
            may_run: caller.scope >= Scope::Run,
            may_admin: caller.scope >= Scope::Admin,
            csrf: session.filter(|session| session.name == caller.name).map(|session| session.csrf),
            name: caller.name,
        })
    }
}

/// A page of this template for this viewer.
pub(super) fn show(template: &str, viewer: &Viewer, values: Value) -> Result<Response, Oops> {
    let page = render(template, context! { viewer => viewer, ..values })?;
    Ok(html(StatusCode::OK, page, POLICY))
}

/// A page with its policy.
pub(super) fn html(status: StatusCode, page: String, policy: &str) -> Response {
    let mut response = (status, Html(page)).into_response();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A problem, shown as a page.
#[derive(Debug)]
pub(super) struct Oops(Problem);

impl From<Problem> for Oops {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<milepost_service::Error> for Oops {
    fn from(error: milepost_service::Error) -> Self {
        Self(error.into())
    }
}

impl From<milepost_runtime::Error> for Oops {
    fn from(error: milepost_runtime::Error) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Oops {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match render("problem.html", context! { problem => self.0 }) {
            Ok(page) => html(status, page, POLICY),
            Err(problem) => problem.into_response(),
        }
    }
}
