//! Section `serve` of the configuration: the daemon's doors.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use milepost_learners::gate::LiveConfig;
use serde::{Deserialize, Serialize};
use url::Url;

use super::canary::CanaryConfig;
use super::improve::config::ImproveInDaemon;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line, with the task and the request that it belongs to.
    Json,
}

/// Files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// The daemon's settings. None comes from a paper; each says why it is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// The address to listen on; any other than loopback needs `allow_remote`.
    pub listen: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Whether other machines may connect: a decision that is made on purpose, and with `tls` or a proxy that has it.
    pub allow_remote: bool,
    /// Where the queue, tokens and named profiles are kept; `service/` beside the episodes where none is given.
    pub directory: Option<PathBuf>,
    /// The file with the administrator's token, made at the first start; `token` in the daemon's directory where none is given.
    pub token_file: Option<PathBuf>,
    /// A browser stays signed in for so many hours.
    pub session_hours: u32,
    /// Names besides loopback under which the daemon may be asked for (`name` or `name:port`): what stops DNS rebinding.
    pub allowed_hosts: Vec<String>,
    /// Origins besides its own whose pages may call it, as in `https://desk.example.org`.
    pub allowed_origins: Vec<Url>,
    /// Most bytes of a request's body.
    pub body_limit: usize,
    /// A request's head, and its body, must arrive within so many seconds.
    pub read_seconds: u64,
    /// Most connections at once; a follower of events keeps one.
    pub max_connections: usize,
    /// Certificate and key, where the daemon itself speaks TLS.
    pub tls: Option<TlsConfig>,
    /// Hosts that webhooks may go to (`name`, `name:port` or `*.suffix`); without any no webhook is taken.
    pub webhook_hosts: Vec<String>,
    /// Browsers that are started before a task needs one.
    pub warm_browsers: usize,
    /// Where traces go (OTLP over HTTP), as in `http://127.0.0.1:4318`.
    pub otlp_endpoint: Option<Url>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Whether an adapter whose verified live outcomes fall below what its validation promised is taken out of service, and when.
    pub live: Option<LiveConfig>,
    /// Whether a generation that was promoted by whoever trains serves a share of the tasks first, and how long; null puts it into service
    /// at once. The model is held twice meanwhile.
    pub canary: Option<CanaryConfig>,
    /// The improvement loop inside the daemon.
    pub improve: ImproveInDaemon,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 7420,
            allow_remote: false,
            directory: None,
            token_file: None,
            session_hours: 12,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            body_limit: 1 << 20,
            read_seconds: 10,
            max_connections: 4096,
            tls: None,
            webhook_hosts: Vec::new(),
            warm_browsers: 1,
            otlp_endpoint: None,
            log_format: LogFormat::Pretty,
            live: Some(LiveConfig::default()),
            canary: None,
            improve: ImproveInDaemon::default(),
        }
    }
}
