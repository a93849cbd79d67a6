//! The cookies of one session (RFC 6265, sections 5.1 to 5.4, without the public suffix list).

use std::time::{Duration, SystemTime};

use url::Url;

/// One cookie.
#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    host_only: bool,
    path: String,
    secure: bool,
    expires: Option<SystemTime>,
}

impl Cookie {
    fn is_for(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let at_host = host == self.domain || (!self.host_only && host.strip_suffix(&self.domain).is_some_and(|front| front.ends_with('.')));
        let path = url.path();
        let at_path = path == self.path
            || path.strip_prefix(self.path.as_str()).is_some_and(|rest| self.path.ends_with('/') || rest.starts_with('/'));
        let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        at_host && at_path && (!self.secure || url.scheme() == "https" || loopback)
    }
}

/// Cookies by domain, path and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cookies {
    cookies: Vec<Cookie>,
}

impl Cookies {
    /// Takes one `set-cookie` header that came from `url`.
    pub fn store(&mut self, header: &str, url: &Url) {
        let mut parts = header.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let host = url.host_str().unwrap_or_default();
        let mut cookie = Cookie {
            name: name.trim().into(),
            value: value.trim().into(),
            domain: host.into(),
            host_only: true,
            path: default_path(url).into(),
            secure: false,
            expires: None,
        };
        let mut max_age = None;
        for part in parts {
            let (key, value) = part.split_once('=').map_or((part.trim(), ""), |(key, value)| (key.trim(), value.trim()));
            match key.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => cookie.path = value.into(),
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    if host != domain && !host.strip_suffix(&domain).is_some_and(|front| front.ends_with('.')) {
                        return;
                    }
                    (cookie.domain, cookie.host_only) = (domain, false);
                }
                "secure" => cookie.secure = true,
                "max-age" => max_age = value.parse::<i64>().ok(),
                "expires" => cookie.expires = httpdate::parse_http_date(value).ok(),
                _ => {}
            }
        }
        if let Some(seconds) = max_age {
            let seconds = u64::try_from(seconds).unwrap_or(0).min(400 * 86_400);
            cookie.expires = Some(if seconds == 0 { SystemTime::UNIX_EPOCH } else { SystemTime::now() + Duration::from_secs(seconds) });
        }
        let same = |known: &Cookie| known.name == cookie.name && known.domain == cookie.domain && known.path == cookie.path;
        match self.cookies.iter().position(same) {
            Some(at) => self.cookies[at] = cookie,
            None => self.cookies.push(cookie),
        }
        let now = SystemTime::now();
        self.cookies.retain(|known| known.expires.is_none_or(|expires| expires > now));
    }

    /// The `cookie` header for a request to `url`: longer paths first.
    pub fn header(&self, url: &Url) -> Option<String> {
        let now = SystemTime::now();
        let mut sent: Vec<&Cookie> =
            self.cookies.iter().filter(|cookie| cookie.is_for(url) && cookie.expires.is_none_or(|expires| expires > now)).collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        (!sent.is_empty()).then(|| sent.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; "))
    }
}

fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(at) => &url.path()[..at],
    }
}
