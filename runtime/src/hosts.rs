//! Host rules: the one language in which allow-lists of hosts are written.
//!
//! A task's capability, the egress proxy and the allow-list of webhooks all read their rules here, so that they agree on every address.
//!
//! | rule | hosts | ports |
//! |---|---|---|
//! | `example.org` | this name alone | the default port of `http` (80) or of `https` (443) |
//! | `example.org:8080` | this name alone | 8080 |
//! | `*.example.org` | all names below this one, at any depth, without the name itself | as `example.org` |
//! | `*.example.org:8080` | all names below this one, at any depth, without the name itself | 8080 |
//! | `192.0.2.7`, `[2001:db8::7]` | this address alone; IPv6 stands in brackets | as above, with a port or without |
//!
//! Names are compared as the URL standard spells them: lower case, international names in their ASCII form (`bücher.example` is
//! `xn--bcher-kva.example`), IPv4 addresses in every notation (`0x7f.1` is `127.0.0.1`). One dot at the end of a name is ignored.
//!
//! A rule without a port allows the default ports only, even if it has a wildcard; any other port must be part of the rule. In an address a
//! port that is the default of its scheme is the same as no port, so that `example.org:443` allows `https://example.org/` and
//! `example.org:80` allows `http://example.org/`.

use url::{Host, Url};

use crate::error::{Error, Result};

/// The default ports of `http` and `https`.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// A host and the port that follows it in the text, if any. The host is in the spelling in which hosts are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The name or IP address.
    pub host: Host,
    /// The port that is written.
    pub port: Option<u16>,
}

impl HostPort {
    /// Parses `host` or `host:port`.
    ///
    /// # Errors
    /// The text is not a host with an optional port. The reason is a predicate such as "has a scheme", to be put after the text.
    pub fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty");
        }
        if text.contains("://") {
            return Err("has a scheme");
        }
        if text.contains('@') {
            return Err("has user information");
        }
        if text.contains(['/', '\\', '?', '#']) {
            return Err("has a path");
        }
        if text.contains('*') {
            return Err("has a wildcard that does not stand alone in front");
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("has white space");
        }
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| "is no host (an IPv6 address stands in brackets)")?;
        // `Url` drops a port that is the scheme's default, so the port is read from the text.
        let after_host = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
        let port = match after_host.rsplit_once(':') {
            Some((_, port)) => Some(port.parse().ok().filter(|&port| port != 0).ok_or("has no port number after the colon")?),
            None => None,
        };
        let host = normalize(url.host().ok_or("has no host")?)?;
        Ok(Self { host, port })
    }
}

/// Brings a host from a parsed address into the spelling in which hosts are compared: `Url` has done all but the dot at the end.
fn normalize(host: Host<&str>) -> std::result::Result<Host, &'static str> {
    match host {
        Host::Domain(name) => match name.strip_suffix('.').unwrap_or(name) {
            "" => Err("has no host"),
            name if name.split('.').any(str::is_empty) => Err("has an empty label"),
            name => Ok(Host::Domain(name.to_owned())),
        },
        Host::Ipv4(address) => Ok(Host::Ipv4(address)),
        Host::Ipv6(address) => Ok(Host::Ipv6(address)),
    }
}

/// One rule: a host or a wildcard, with or without a port. The [module](self) describes the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    pattern: Pattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// One host.
    Exact(Host),
    /// All names that end in this text, which begins with a dot.
    Below(String),
}

impl Pattern {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(suffix), Host::Domain(name)) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            (Self::Below(_), _) => false,
        }
    }
}

impl HostRule {
    /// Parses `host`, `host:port`, `*.suffix` or `*.suffix:port`.
    ///
    /// # Errors
    /// The text has a scheme, a path, user information, a wildcard elsewhere than in front, or is no host.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::BadInput(format!("the host rule {text:?} {reason}; write `example.org`, `example.org:8080` or `*.example.org`"))
        };
        let suffix = text.strip_prefix("*.");
        let HostPort { host, port } = HostPort::parse(suffix.unwrap_or(text)).map_err(&wrong)?;
        let pattern = match (suffix, host) {
            (None, host) => Pattern::Exact(host),
            (Some(_), Host::Domain(name)) => Pattern::Below(format!(".{name}")),
            (Some(_), _) => return Err(wrong("has a wildcard before an IP address")),
        };
        Ok(Self { pattern, port })
    }

    /// Whether the rule has a wildcard.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.pattern, Pattern::Below(_))
    }

    /// The port that the rule names.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether the rule allows an address. Addresses of other schemes than `http` and `https` are never allowed.
    pub fn matches(&self, url: &Url) -> bool {
        let port_matches = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        matches!(url.scheme(), "http" | "https")
            && port_matches
            && url.host().and_then(|host| normalize(host).ok()).is_some_and(|host| self.pattern.matches(&host))
    }

    /// Whether the rule allows a connection to this host, spelled as in [`HostPort`], at this port. A connection has no scheme, so a rule
    /// without a port allows both default ports.
    pub fn matches_connection(&self, host: &Host, port: u16) -> bool {
        let port_matches = self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |own| own == port);
        port_matches && self.pattern.matches(host)
    }
}

/// A list of host rules. An address is allowed if at least one rule allows it; an empty list allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules(Vec<HostRule>);

impl HostRules {
    /// Parses all rules.
    ///
    /// # Errors
    /// A rule cannot be parsed (see [`HostRule::parse`]).
    pub fn parse<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self> {
        rules.into_iter().map(|rule| HostRule::parse(rule.as_ref())).collect::<Result<_>>().map(Self)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &HostRule> {
        self.0.iter()
    }

    /// Whether a rule allows an address.
    pub fn matches(&self, url: &Url) -> bool {
        self.iter().any(|rule| rule.matches(url))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Action, Capability};

    fn check(rule: &str, url: &str, allowed: bool) {
        let (rule, url) = (HostRule::parse(rule).unwrap(), Url::parse(url).unwrap());
        assert_eq!(rule.matches(&url), allowed, "{rule:?} {url}");
    }

    fn check_connection(rule: &str, target: &str, allowed: bool) {
        let (rule, target) = (HostRule::parse(rule).unwrap(), HostPort::parse(target).unwrap());
        assert_eq!(rule.matches_connection(&target.host, target.port.unwrap()), allowed, "{rule:?} {target:?}");
    }

    #[test]
    fn names_are_compared_whole_and_in_one_spelling() {
        check("example.org", "https://example.org/x?y#z", true);
        check("Example.ORG", "https://eXample.org/", true);
        check("example.org.", "https://example.org/", true);
        check("example.org", "https://example.org./", true);
        check("bücher.example", "https://xn--bcher-kva.example/", true);
        check("xn--bcher-kva.example", "https://BÜCHER.example/", true);
        check("example.org", "https://www.example.org/", false);
        check("example.org", "https://example.org.evil.io/", false);
        check("example.org", "https://badexample.org/", false);
        check("example.org", "https://example.org@evil.io/", false);
        check("example.org", "https://evil.io/example.org", false);
        check("example.org", "https://example.org../", false);
    }

    #[test]
    fn a_rule_without_a_port_allows_the_default_port_of_the_scheme() {
        check("example.org", "http://example.org/", true);
        check("example.org", "http://example.org:80/", true);
        check("example.org", "https://example.org:443/", true);
        check("example.org", "https://example.org:444/", false);
        check("example.org", "http://example.org:443/", false);
        check("example.org", "https://example.org:80/", false);
    }

    #[test]
    fn a_rule_with_a_port_allows_this_port_alone() {
        check("example.org:8080", "http://example.org:8080/", true);
        check("example.org:8080", "https://EXAMPLE.org.:8080/", true);
        check("example.org:8080", "http://example.org/", false);
        check("example.org:8080", "http://example.org:8081/", false);
        check("example.org:443", "https://example.org/", true);
        check("example.org:80", "http://example.org/", true);
        check("example.org:443", "http://example.org/", false);
        check("example.org:80", "https://example.org/", false);
        check("example.org:443", "http://example.org:443/", true);
    }

    #[test]
    fn a_wildcard_allows_the_names_below_and_no_port_more() {
        check("*.example.org", "https://a.example.org/", true);
        check("*.Example.org.", "http://a.B.example.org./", true);
        check("*.bücher.example", "https://a.xn--bcher-kva.example/", true);
        check("*.example.org", "https://example.org/", false);
        check("*.example.org", "https://badexample.org/", false);
        check("*.example.org", "https://.example.org/", false);
        check("*.example.org", "https://a.example.org:8080/", false);
        check("*.example.org:8080", "https://a.example.org:8080/", true);
        check("*.example.org:8080", "https://a.example.org/", false);
        check("*.example.org:443", "https://a.example.org/", true);
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        check("127.0.0.1", "http://127.0.0.1/", true);
        check("0x7f.1", "http://127.0.0.1/", true);
        check("127.0.0.1:8080", "http://2130706433:8080/", true);
        check("127.0.0.1", "http://127.0.0.2/", false);
        check("127.0.0.1", "http://[::ffff:127.0.0.1]/", false);
        check("[::1]", "http://[0:0::1]/", true);
        check("[0:0::1]:8080", "http://[::1]:8080/", true);
        check("[::1]:8080", "http://[::1]/", false);
        check("localhost", "http://127.0.0.1/", false);
    }

    #[test]
    fn other_schemes_are_never_allowed() {
        for url in ["ftp://example.org/", "ws://example.org/", "file:///example.org", "javascript:example.org", "data:,example.org"] {
            check("example.org", url, false);
            check("*.example.org", url, false);
        }
        check("example.org:21", "ftp://example.org/", false);
    }

    #[test]
    fn connections_have_no_scheme_so_both_default_ports_count() {
        for (port, allowed) in [(80, true), (443, true), (8080, false)] {
            check_connection("example.org", &format!("example.org:{port}"), allowed);
            check_connection("*.example.org", &format!("a.example.org:{port}"), allowed);
            check_connection("[::1]", &format!("[0::1]:{port}"), allowed);
        }
        check_connection("example.org:443", "Example.org.:443", true);
        check_connection("example.org:443", "example.org:80", false);
        check_connection("*.example.org:8080", "a.example.org:8080", true);
        check_connection("*.example.org:8080", "a.example.org:443", false);
    }

    #[test]
    fn a_host_keeps_the_port_that_is_written() {
        for (text, host, port) in [
            ("Example.org.", "example.org", None),
            ("example.org:80", "example.org", Some(80)),
            ("0177.0.0.1:443", "127.0.0.1", Some(443)),
            ("[0:0::1]", "[::1]", None),
            ("[::1]:65535", "[::1]", Some(65535)),
        ] {
            let parsed = HostPort::parse(text).unwrap();
            assert_eq!((parsed.host.to_string().as_str(), parsed.port), (host, port), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_rule_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("*", "has a wildcard that does not stand alone in front"),
            ("*.", "is empty"),
            ("a.*.org", "has a wildcard that does not stand alone in front"),
            ("*example.org", "has a wildcard that does not stand alone in front"),
            ("*.*.org", "has a wildcard that does not stand alone in front"),
            ("*.127.0.0.1", "has a wildcard before an IP address"),
            ("*.[::1]", "has a wildcard before an IP address"),
            ("http://example.org", "has a scheme"),
            ("me@example.org", "has user information"),
            ("example.org/path", "has a path"),
            ("example.org?x", "has a path"),
            ("a b", "has white space"),
            ("a..b", "has an empty label"),
            (".", "has no host"),
            ("example.org:", "has no port number after the colon"),
            ("example.org:0", "has no port number after the colon"),
            ("example.org:99999", "is no host (an IPv6 address stands in brackets)"),
            ("::1", "is no host (an IPv6 address stands in brackets)"),
        ] {
            let refused = HostRule::parse(text).unwrap_err().to_string();
            let expected = format!("the host rule {text:?} {reason}; write `example.org`, `example.org:8080` or `*.example.org`");
            assert!(refused.ends_with(&expected), "{refused}");
        }
    }

    #[test]
    fn a_list_allows_what_one_of_its_rules_allows() {
        let rules = HostRules::parse(["example.org", "*.example.net:8080"]).unwrap();
        for (url, allowed) in [
            ("https://example.org/", true),
            ("https://a.example.net:8080/", true),
            ("https://example.org:8080/", false),
            ("https://a.example.net/", false),
        ] {
            assert_eq!(rules.matches(&Url::parse(url).unwrap()), allowed, "{url}");
        }
        assert_eq!(rules.iter().map(|rule| (rule.is_wildcard(), rule.port())).collect::<Vec<_>>(), [(false, None), (true, Some(8080))]);
        assert!(!HostRules::default().matches(&Url::parse("https://example.org/").unwrap()) && HostRules::default().is_empty());
        assert!(HostRules::parse(["example.org", "http://example.net"]).is_err());
    }

    #[test]
    fn a_capability_is_widened_by_one_host_and_never_by_a_wildcard() {
        let at = Url::parse("https://example.org/").unwrap();
        for (target, added) in [
            ("https://other.example/x", Some("other.example")),
            ("http://other.example:8080/", Some("other.example:8080")),
            ("https://Other.Example./", Some("other.example.")),
            ("http://[::1]:8080/", Some("[::1]:8080")),
            ("https://example.org:443/y", None),
            ("https://*.example/", None),
            ("ftp://other.example/", None),
            ("javascript:alert(1)", None),
        ] {
            let mut capability = Capability::for_host(&at);
            capability.widen(&Action::Goto(target.to_owned()), &at);
            assert_eq!(capability.hosts.get(1).map(String::as_str), added, "{target}");
            let reached = added.is_some() || target.starts_with("https://example.org");
            assert_eq!(capability.allows_url(&Url::parse(target).unwrap()), reached, "{target}");
        }
    }

    #[test]
    fn a_capability_ignores_a_rule_that_cannot_be_parsed() {
        let at = Url::parse("https://example.org/").unwrap();
        let hosts = ["https://example.org".to_owned(), "*".to_owned(), "example.net".to_owned()].to_vec();
        let capability = Capability { hosts, ..Capability::for_host(&at) };
        assert!(!capability.allows_url(&at) && capability.allows_url(&Url::parse("https://example.net/").unwrap()));
    }
}
