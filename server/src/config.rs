//! Section `serve` of the configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use milepost_improve::daemon::{CanaryConfig, ImproveInDaemon};
use milepost_improve::gate::LiveConfig;
use serde::{Deserialize, Serialize};
use url::Url;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Pretty,
    /// One JSON object per line, with the task and the request that the line belongs to.
    Json,
}

/// The files of a TLS certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// The certificate's private key (PEM).
    pub key: PathBuf,
}

/// The daemon's settings. No default comes from a paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// The address to listen on; an address other than loopback needs `allow_remote`.
    pub listen: IpAddr,
    /// The port to listen on; 0 takes a free port.
    pub port: u16,
    /// Whether other machines may connect. It must be set explicitly, and should be combined with `tls` or a proxy that speaks TLS.
    pub allow_remote: bool,
    /// The directory of the queue, the tokens and the named browser profiles; `None` for `service/` in the episodes' directory.
    pub directory: Option<PathBuf>,
    /// The file with the administrator's token, which the first start creates; `None` for `token` in the daemon's directory.
    pub token_file: Option<PathBuf>,
    /// The number of hours for which a browser stays signed in.
    pub session_hours: u32,
    /// Host names besides loopback under which requests may reach the daemon (`name` or `name:port`). Other names are refused, which stops DNS
    /// rebinding.
    pub allowed_hosts: Vec<String>,
    /// Origins besides the daemon's own whose pages may call it, for example `https://desk.example.org`.
    pub allowed_origins: Vec<Url>,
    /// The maximum size of a request's body in bytes.
    pub body_limit: usize,
    /// The number of seconds within which a request's head must arrive, and again its body.
    pub read_seconds: u64,
    /// The maximum number of open connections; each follower of events keeps one open.
    pub max_connections: usize,
    /// The certificate and key with which the daemon speaks TLS; `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The hosts that webhooks may be sent to (`name`, `name:port` or `*.suffix`); without any, tasks with a webhook are refused.
    pub webhook_hosts: Vec<String>,
    /// The number of browsers that are started before a task needs one.
    pub warm_browsers: usize,
    /// The address that traces are sent to (OTLP over HTTP), for example `http://127.0.0.1:4318`.
    pub otlp_endpoint: Option<Url>,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// When an adapter whose verified live outcomes fall below its validation result is taken out of service; `None` never does so.
    pub live: Option<LiveConfig>,
    /// How long a generation that training promoted serves only a share of the tasks at first; null puts it into service for all tasks at once.
    /// The model is in memory twice during the trial.
    pub canary: Option<CanaryConfig>,
    /// When and how the daemon runs the improvement loop.
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
