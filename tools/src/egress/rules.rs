//! Which hosts the proxy connects to, and at which of their addresses.

use milepost_runtime::Result;
use milepost_runtime::hosts::{HostPort, HostRules};
use url::Host;

/// The host rules of a proxy (see [`milepost_runtime::hosts`]); an empty list refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    rules: HostRules,
}

/// The connections that the rules permit to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Permission {
    /// No rule names the target.
    Denied,
    /// Connections to public addresses.
    PublicAddresses,
    /// Connections to any address: a rule names the host itself together with the port.
    AnyAddress,
}

impl EgressRules {
    /// Parses host rules. Private and local addresses are reached only where a rule without a wildcard names host and port together.
    ///
    /// # Errors
    /// A rule cannot be parsed (see [`milepost_runtime::hosts::HostRule::parse`]).
    pub fn parse<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> Result<Self> {
        Ok(Self { rules: HostRules::parse(rules)? })
    }

    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the widest permission that a rule gives for a target.
    pub(super) fn permission(&self, target: &Target) -> Permission {
        let matching = self.rules.iter().filter(|rule| rule.matches_connection(&target.host, target.port));
        let permissions = matching.map(|rule| match rule.port() {
            Some(_) if !rule.is_wildcard() => Permission::AnyAddress,
            _ => Permission::PublicAddresses,
        });
        permissions.max().unwrap_or(Permission::Denied)
    }
}

/// The host and port that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The host, in the spelling in which hosts are compared.
    pub host: Host,
    /// The port to connect to: 80 where the request names none.
    pub port: u16,
    /// The port that the request names.
    pub written_port: Option<u16>,
}

impl Target {
    /// Parses `host` or `host:port`.
    ///
    /// # Errors
    /// The text is not a host with an optional port; the reason is that of [`HostPort::parse`].
    pub fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let HostPort { host, port } = HostPort::parse(text)?;
        Ok(Self { host, port: port.unwrap_or(80), written_port: port })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
