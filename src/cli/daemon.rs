//! The command line of the daemon: serve, token.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};

use super::task::JsonArgs;

/// The arguments of `milepost serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port; 0 takes a free one [default: `serve.port`]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen on; any address but loopback needs `serve.allow_remote` [default: `serve.listen`]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<IpAddr>,
    /// File with the administrator's token, which the first start creates [default: `serve.token_file`]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File that the daemon's address is written to when it is ready, and that is removed at its end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The commands of `milepost token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List the names, scopes and expiry of the tokens, but never the tokens themselves
    List(JsonArgs),
    /// Create a token and print it; it is not shown again
    Add {
        /// Name of the token, which is also the name of its caller
        name: String,
        /// What the token allows; each scope includes the ones before it
        #[arg(long, value_parser = scopes())]
        scope: String,
        /// Number of days until the token expires [default: it never expires]
        #[arg(long)]
        days: Option<u32>,
    },
    /// Remove a token, and end the sessions that signed in with it
    Revoke {
        /// Name of the token
        name: String,
    },
    /// Replace the administrator's token; the old one is refused at once
    Rotate,
}

/// Returns a parser of the scopes; the help lists each with its meaning.
fn scopes() -> PossibleValuesParser {
    let values = [
        ("read", "See tasks, episodes, adapters and metrics"),
        ("run", "Submit, cancel, approve and answer tasks"),
        ("admin", "Change adapters and start improvement runs"),
    ];
    values.map(|(word, help)| PossibleValue::new(word).help(help)).into()
}
