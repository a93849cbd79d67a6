//! Which names the daemon answers to, and whose pages may call it: rebinding and cross-origin requests end here.

use axum::http::{HeaderMap, Uri, header};
use url::{Host, Url};

use crate::serve::config::ServeConfig;
use crate::serve::problem::Problem;

/// The names and origins that are let in.
#[derive(Clone, Debug)]
pub struct Doors {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Doors {
    /// The doors of a configuration.
    pub fn new(config: &ServeConfig) -> Self {
        let hosts = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, origins: config.allowed_origins.iter().map(|origin| origin.origin().ascii_serialization()).collect() }
    }

    /// Refuses a request for another host: a page whose name was rebound to this address still sends its own name. Gives the host.
    ///
    /// # Errors
    /// 400 without exactly one readable `Host`, 403 for a foreign one.
    pub fn host(&self, headers: &HeaderMap, uri: &Uri) -> Result<String, Problem> {
        let mut all = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else {
            return Err(Problem::unreadable("a request has exactly one `Host` header"));
        };
        let host = host.to_str().map_err(|_| Problem::unreadable("the `Host` header cannot be read"))?.to_ascii_lowercase();
        for name in uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).iter().chain([&host]) {
            if !self.knows(name) {
                return Err(Problem::forbidden(format!(
                    "this daemon is not known as {name:?}; ask for it by a loopback name, or list the name in `serve.allowed_hosts`"
                )));
            }
        }
        Ok(host)
    }

    fn knows(&self, name: &str) -> bool {
        // Read as a whole URL, so that user information, paths and other spellings of an address show.
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
        loopback || self.hosts.iter().any(|known| known == name || Some(known.as_str()) == url.host_str())
    }

    /// Refuses a page of another origin. Gives a listed foreign origin, whose page may read the answer.
    ///
    /// # Errors
    /// 403.
    pub fn origin(&self, headers: &HeaderMap, host: &str, scheme: &str) -> Result<Option<String>, Problem> {
        let refuse = |origin: &str| {
            Err(Problem::forbidden(format!(
                "pages of {origin:?} may not call this daemon; list the origin in `serve.allowed_origins` if they should"
            )))
        };
        let mut found = None;
        for origin in headers.get_all(header::ORIGIN) {
            let Ok(origin) = origin.to_str() else { return refuse("an unreadable origin") };
            if origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")) {
                continue;
            }
            if !self.origins.iter().any(|known| known == origin) {
                return refuse(origin);
            }
            found = Some(origin.to_owned());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Doors {
        let config = ServeConfig {
            allowed_hosts: vec!["Desk.example.org".into(), "api.example.org:8443".into()],
            allowed_origins: vec![Url::parse("https://app.example.org").unwrap()],
            ..ServeConfig::default()
        };
        Doors::new(&config)
    }

    #[test]
    fn names_that_are_not_ours_are_refused() {
        for (name, known) in [
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
            assert_eq!(doors().knows(name), known, "{name}");
        }
    }

    #[test]
    fn origins_that_are_not_ours_are_refused() {
        let check = |origin: &'static str| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, axum::http::HeaderValue::from_static(origin))]);
            doors().origin(&headers, "127.0.0.1:7420", "http").map_err(|problem| problem.status)
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
