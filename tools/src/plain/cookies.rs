//! The cookies of one session (RFC 6265), kept by the crate `cookie_store` without the list of public suffixes.

use std::cmp::Reverse;

use cookie_store::CookieStore;
use url::Url;

/// The cookies that the sites of a session have set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cookies {
    store: CookieStore,
}

impl Cookies {
    /// Stores the cookie of one `set-cookie` header that came from `url`.
    pub fn store(&mut self, header: &str, url: &Url) {
        if let Err(error) = self.store.parse(header, url) {
            tracing::debug!(%error, "a cookie is not kept");
        }
    }

    /// Returns the `cookie` header for a request to `url`: cookies with longer paths first, those of equal length in the order in which
    /// they were set.
    pub fn header(&self, url: &Url) -> Option<String> {
        let mut cookies = self.store.matches(url);
        cookies.sort_by_key(|cookie| Reverse(cookie.path.len()));
        let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Checks the `cookie` header for `url` after these `set-cookie` headers from `http://a.shop.test/deep/page`.
    fn check(set: &[&str], url: &str, sent: Option<&str>) {
        let mut cookies = Cookies::default();
        for header in set {
            cookies.store(header, &Url::parse("http://a.shop.test/deep/page").unwrap());
        }
        assert_eq!(cookies.header(&Url::parse(url).unwrap()).as_deref(), sent, "{set:?} {url}");
    }

    #[test]
    fn cookies_go_back_to_their_host_and_path() {
        check(&["a=1"], "http://a.shop.test/deep/other", Some("a=1"));
        check(&["a=1"], "http://a.shop.test/", None);
        check(&["a=1; Path=/"], "http://a.shop.test:8080/", Some("a=1"));
        check(&["a=1; Path=/"], "http://b.shop.test/", None);
        check(&["a=1; Path=/; Domain=shop.test"], "http://b.shop.test/", Some("a=1"));
        check(&["a=1; Path=/; Domain=other.test"], "http://a.shop.test/", None);
        check(&["a=1; Path=/de"], "http://a.shop.test/deep/", None);
    }

    #[test]
    fn longer_paths_come_first_then_older_cookies() {
        check(&["a=1; Path=/", "b=2; Path=/deep", "c=3; Path=/"], "http://a.shop.test/deep/", Some("b=2; a=1; c=3"));
        check(&["a=1; Path=/", "b=2; Path=/", "a=3; Path=/"], "http://a.shop.test/", Some("a=3; b=2"));
    }

    #[test]
    fn expired_and_secure_cookies_are_not_sent() {
        check(&["a=1; Max-Age=60"], "http://a.shop.test/deep/", Some("a=1"));
        check(&["a=1; Max-Age=99999999999999999999"], "http://a.shop.test/deep/", Some("a=1"));
        check(&["a=1", "a=2; Max-Age=0"], "http://a.shop.test/deep/", None);
        check(&["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "http://a.shop.test/deep/", None);
        check(&["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60"], "http://a.shop.test/deep/", Some("a=1"));
        check(&["a=1; Secure"], "http://a.shop.test/deep/", None);
        check(&["a=1; Secure"], "https://a.shop.test/deep/", Some("a=1"));
        check(&["nothing"], "http://a.shop.test/deep/", None);
    }

    #[test]
    fn secure_cookies_are_sent_to_loopback() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let (url, mut cookies) = (Url::parse(&format!("http://{host}/")).unwrap(), Cookies::default());
            cookies.store("a=1; Secure", &url);
            assert_eq!(cookies.header(&url).as_deref(), Some("a=1"), "{host}");
        }
    }
}
