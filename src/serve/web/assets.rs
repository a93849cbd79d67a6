//! Stylesheet, script, and the page to sign in on, which holds both: without a token nothing else is given out.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::context;
use sha2::{Digest, Sha256};

use super::page::html;
use super::templates::render;

/// The stylesheet.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// What the page to sign in on may load: exactly the script and the stylesheet that stand in it.
static SIGN_IN_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// The page that asks for the token.
pub fn sign_in() -> Response {
    match render("sign_in.html", context! { style => STYLE, script => SCRIPT }) {
        Ok(page) => html(StatusCode::UNAUTHORIZED, page, &SIGN_IN_POLICY),
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sign_in_page_holds_is_what_its_policy_names() {
        let page = render("sign_in.html", context! { style => STYLE, script => SCRIPT }).unwrap();
        let between = |open: &str, close: &str| page.split_once(open).unwrap().1.split_once(close).unwrap().0.to_owned();
        assert_eq!(between("<script>", "</script>"), SCRIPT, "the hash is taken of this very text");
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("/assets/"));
    }
}
