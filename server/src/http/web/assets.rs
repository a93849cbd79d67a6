//! The stylesheet, the script, and the sign-in page. The sign-in page has both inline, because a browser without a token gets nothing else.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::context;
use sha2::{Digest, Sha256};

use super::page::html_response;
use super::templates::render;

/// The stylesheet of all pages.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script of all pages.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The content security policy of the sign-in page, which allows by hash only the script and the stylesheet that the page holds.
static SIGN_IN_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// Handles `GET /assets/page.css`.
pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

/// Handles `GET /assets/page.js`.
pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// Renders the page that asks for the token, with status 401.
pub fn sign_in() -> Response {
    match render("sign_in.html", context! { style => STYLE, script => SCRIPT }) {
        Ok(page) => html_response(StatusCode::UNAUTHORIZED, page, &SIGN_IN_POLICY),
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_hashes_what_the_sign_in_page_holds() {
        let page = render("sign_in.html", context! { style => STYLE, script => SCRIPT }).unwrap();
        let between = |open: &str, close: &str| page.split_once(open).unwrap().1.split_once(close).unwrap().0.to_owned();
        assert_eq!(between("<script>", "</script>"), SCRIPT, "the policy hashes exactly this text");
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("/assets/"));
    }
}
