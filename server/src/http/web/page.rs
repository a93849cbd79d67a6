//! The parts that all pages share: the viewer, the content security policy, and the error page.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::CookieJar;
use minijinja::{Value, context};
use serde::Serialize;

use super::templates::render;
use crate::http::auth::{COOKIE, Reader, Scope};
use crate::http::errors::Problem;
use crate::http::state::App;

/// The content security policy of a page: it may load files of this daemon and has no inline scripts or styles.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The caller who views a page, as the templates see it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Viewer {
    /// The name of the viewer's token.
    name: String,
    /// Whether the viewer may submit tasks and decide.
    may_run: bool,
    /// Whether the viewer may promote and roll back adapters.
    may_admin: bool,
    /// The CSRF token for the viewer's changes; `None` if the viewer authenticated by bearer token.
    csrf: Option<String>,
}

impl FromRequestParts<App> for Viewer {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ErrorPage> {
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

/// Renders a template for the viewer, with status 200.
pub(super) fn render_page(template: &str, viewer: &Viewer, values: Value) -> Result<Response, ErrorPage> {
    let page = render(template, context! { viewer => viewer, ..values })?;
    Ok(html_response(StatusCode::OK, page, CONTENT_SECURITY_POLICY))
}

/// Returns a response with the page and its content security policy.
pub(super) fn html_response(status: StatusCode, page: String, policy: &str) -> Response {
    let mut response = (status, Html(page)).into_response();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A problem that is shown as a page.
#[derive(Debug)]
pub(super) struct ErrorPage(Problem);

impl From<Problem> for ErrorPage {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<milepost_service::Error> for ErrorPage {
    fn from(error: milepost_service::Error) -> Self {
        Self(error.into())
    }
}

impl From<milepost_runtime::Error> for ErrorPage {
    fn from(error: milepost_runtime::Error) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match render("problem.html", context! { problem => self.0 }) {
            Ok(page) => html_response(status, page, CONTENT_SECURITY_POLICY),
            Err(problem) => problem.into_response(),
        }
    }
}
