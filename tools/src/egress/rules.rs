//! Which hosts may be reached, and which addresses never without being named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use milepost_runtime::{Error, Result};
use url::{Host, Url};

/// Ports that a rule without a port opens.
const WEB_PORTS: [u16; 2] = [80, 443];

/// A list of hosts; an empty one refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    host: Pattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Host),
    /// With the leading dot: the name itself is not among its subdomains.
    Suffix(String),
}

/// What the rules say about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// No rule names it.
    No,
    /// At public addresses only.
    Public,
    /// At any address: host and port are named together.
    Anywhere,
}

impl EgressRules {
    /// Reads rules: `host`, `host:port`, `*.suffix` or `*.suffix:port`. Without a port, 80 and 443 are meant. A host is a name or
    /// an IP address (IPv6 in brackets); private and local addresses are reached only where host and port are given together.
    ///
    /// # Errors
    /// A rule with a scheme, a path, user information, or a wildcard elsewhere than in front.
    pub fn parse<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self> {
        let rules = rules.into_iter().map(|rule| Rule::parse(rule.as_ref())).collect::<Result<_>>()?;
        Ok(Self { rules })
    }

    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn permit(&self, target: &Target) -> Permit {
        let matching = |rule: &&Rule| match rule.port {
            Some(port) => port == target.port,
            None => WEB_PORTS.contains(&target.port),
        };
        let permits = self.rules.iter().filter(matching).filter_map(|rule| match (&rule.host, &target.host) {
            (Pattern::Exact(host), named) if host == named => Some(if rule.port.is_some() { Permit::Anywhere } else { Permit::Public }),
            (Pattern::Suffix(suffix), Host::Domain(name)) if name.ends_with(suffix.as_str()) && name.len() > suffix.len() => {
                Some(Permit::Public)
            }
            _ => None,
        });
        permits.fold(
            Permit::No,
            |known, permit| if known == Permit::Anywhere || permit == Permit::Anywhere { Permit::Anywhere } else { permit },
        )
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::BadInput(format!("the host rule {text:?} {reason}; write `example.org`, `example.org:8080` or `*.example.org`"))
        };
        let name = text.strip_prefix("*.");
        let target = Target::parse(name.unwrap_or(text)).map_err(&wrong)?;
        let host = match (name, target.host) {
            (None, host) => Pattern::Exact(host),
            (Some(_), Host::Domain(suffix)) => Pattern::Suffix(format!(".{suffix}")),
            (Some(_), _) => return Err(wrong("has a wildcard before an IP address")),
        };
        Ok(Self { host, port: target.written_port })
    }
}

/// A host and port, in one spelling: lower case, ASCII form of international names, no trailing dot, IP addresses as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub host: Host,
    /// The port that is meant (80 where none is written).
    pub port: u16,
    /// The port that is written.
    pub written_port: Option<u16>,
}

impl Target {
    /// Reads `host` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
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
        // `Url` forgets a written default port.
        let after_host = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
        let written_port = match after_host.rsplit_once(':') {
            Some((_, port)) => Some(port.parse().ok().filter(|&port| port != 0).ok_or("has no port number after the colon")?),
            None => None,
        };
        let host = match url.host().ok_or("has no host")?.to_owned() {
            Host::Domain(name) => match name.strip_suffix('.').unwrap_or(&name) {
                "" => return Err("has no host"),
                name if name.split('.').any(str::is_empty) => return Err("has an empty label"),
                name => Host::Domain(name.to_owned()),
            },
            host => host,
        };
        Ok(Self { host, port: written_port.unwrap_or(80), written_port })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether an address is one of the public internet (IANA special-purpose registries, and cloud metadata services).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Azure's host channel, which lies in a public range.
    const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special && address != WIRE_SERVER
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // An IPv4 address in IPv6's clothes: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(embedded(high, low))
        }
        // Teredo and the other protocol assignments of 2001::/23, and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3; all else is local, multicast or reserved.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
