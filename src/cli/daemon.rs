//! The command line of the daemon: serve, token.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArgs;
use crate::serve::auth::Scope;

/// `milepost serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The port; 0 takes a free one [default: `serve.port`]
    #[arg(long)]
    pub port: Option<u16>,
    /// The address; any other than loopback needs `serve.allow_remote` [default: `serve.listen`]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<IpAddr>,
    /// The file with the administrator's token, made at the first start [default: `serve.token_file`]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Write the daemon's address to this file when it is ready; it is removed at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// `milepost token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Show the tokens: names, scopes, expiry; never the tokens themselves
    List(JsonArgs),
    /// Make a token and print it, once
    Add {
        /// Its name, which is also the caller's
        name: String,
        /// What it allows; each scope holds the ones before it
        #[arg(long, value_enum)]
        scope: Scope,
        /// Days until it expires [default: never]
        #[arg(long)]
        days: Option<u32>,
    },
    /// Remove a token; what was signed in with it is signed out
    Revoke {
        /// Its name
        name: String,
    },
    /// Replace the administrator's token; the old one is refused at once
    Rotate,
}
