//! Refuses requests for foreign host names, which stops DNS rebinding, and requests from pages of foreign origins.

use axum::http::{HeaderMap, Uri, header};
use url::{Host, Url};

use crate::config::ServeConfig;
use crate::http::errors::Problem;

/// The host names under which requests may reach the daemon, and the origins whose pages may call it.
#[derive(Clone, Debug)]
pub struct HostAndOriginPolicy {
    /// The configured host names in lower case, with or without a port; loopback names are always allowed.
    hosts: Vec<String>,
    /// The configured origins; the daemon's own origin is always allowed.
    origins: Vec<String>,
}

impl HostAndOriginPolicy {
    /// Takes the allowed host names and origins from the configuration.
    pub fn new(config: &ServeConfig) -> Self {
        let hosts = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, origins: config.allowed_origins.iter().map(|origin| origin.origin().ascii_serialization()).collect() }
    }

    /// Checks the request's host and returns it in lower case. A page whose domain was rebound to this address still sends its own domain as the
    /// host, and is refused.
    ///
    /// # Errors
    /// 400: the request does not have exactly one readable `Host` header. 403: the host is not allowed.
    pub fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<String, Problem> {
        let mut all = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else {
            return Err(Problem::unreadable("a request has exactly one `Host` header"));
        };
        let host = host.to_str().map_err(|_| Problem::unreadable("the `Host` header cannot be read"))?.to_ascii_lowercase();
        for name in uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).iter().chain([&host]) {
            if !self.is_allowed_host(name) {
                return Err(Problem::forbidden(format!(
                    "this daemon is not known as {name:?}; ask for it by a loopback name, or list the name in `serve.allowed_hosts`"
                )));
            }
        }
        Ok(host)
    }

    /// Returns true if the name (`host` or `host:port`) is a loopback name or one of the configured host names.
    fn is_allowed_host(&self, name: &str) -> bool {
        // Parsing the name as a URL shows user information, paths and other spellings of an address.
        let Ok(url) = Url::parse(&format!("http://{name}/")) else { return false };
        if !url.username().is_empty() || url.password().is_some() || url.path() != "/" || url.query().is_some() || url.fragment().is_some()
        {
            return false;
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        loopback || self.hosts.iter().any(|allowed| allowed == name || Some(allowed.as_str()) == url.host_str())
    }

    /// Checks the origins that the request names. Returns the foreign one that is allowed, if any: its page may read the response.
    ///
    /// # Errors
    /// 403: an origin is unreadable or not allowed.
    pub fn check_origin(&self, headers: &HeaderMap, host: &str, scheme: &str) -> Result<Option<String>, Problem> {
        let refuse = |origin: &str| {
            Err(Problem::forbidden(format!(
                "pages of {origin:?} may not call this daemon; list the origin in `serve.allowed_origins` if they should"
            )))
        };
        let mut foreign = None;
        for origin in headers.get_all(header::ORIGIN) {
            let Ok(origin) = origin.to_str() else { return refuse("an unreadable origin") };
            if origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")) {
                continue;
            }
            if !self.origins.iter().any(|allowed| allowed == origin) {
                return refuse(origin);
            }
            foreign = Some(origin.to_owned());
        }
        Ok(foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> HostAndOriginPolicy {
        let config = ServeConfig {
            allowed_hosts: vec!["Desk.example.org".into(), "api.example.org:8443".into()],
            allowed_origins: vec![Url::parse("https://app.example.org").unwrap()],
            ..ServeConfig::default()
        };
        HostAndOriginPolicy::new(&config)
    }

    #[test]
    fn only_loopback_and_configured_hosts_are_allowed() {
        for (name, allowed) in [
            ("127.0.0.1:7420", true),
            ("localhost", true),
            ("[::1]:7420", true),
            ("desk.example.org", true),
            ("desk.example.org:99", true),
            ("api.example.org:8443", true),
            ("api.example.org", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("localhost@evil.example", false),
            ("evil.example/127.0.0.1", false),
            ("127.0.0.1:7420#.evil.example", false),
            ("192.168.1.7", false),
            ("0.0.0.0", false),
            ("", false),
        ] {
            assert_eq!(policy().is_allowed_host(name), allowed, "{name}");
        }
    }

    #[test]
    fn only_the_own_and_configured_origins_are_allowed() {
        let check = |origin: &'static str| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, axum::http::HeaderValue::from_static(origin))]);
            policy().check_origin(&headers, "127.0.0.1:7420", "http").map_err(|problem| problem.status)
        };
        assert_eq!(check("http://127.0.0.1:7420").unwrap(), None);
        assert_eq!(check("https://app.example.org").unwrap().as_deref(), Some("https://app.example.org"));
        for foreign in
            ["null", "http://127.0.0.1:7421", "https://127.0.0.1:7420", "http://localhost:7420", "https://app.example.org.evil.example"]
        {
            assert_eq!(check(foreign).unwrap_err(), 403, "{foreign}");
        }
    }
}
