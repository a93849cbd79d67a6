//! The daemon's commands in a build without the feature `daemon`: each is refused with the command that builds them.

use anyhow::{Result, bail};
use milepost_runtime::Error;

use crate::cli::{ClientArgs, ServeArgs, TokenCommand};
use crate::config::Config;
use crate::exit::Exit;

/// Returns the error of a command that this build lacks.
fn refuse(command: &str) -> Result<Exit> {
    let fix = "build it with `make build` or `cargo build --features daemon`";
    bail!(Error::BadInput(format!("`milepost {command}` is not in this build, which has no daemon; {fix}")))
}

/// Refuses `milepost serve`.
pub async fn serve(_: ServeArgs, _: Config, _: String) -> Result<Exit> {
    refuse("serve")
}

/// Refuses `milepost mcp`.
pub async fn mcp(_: Config) -> Result<Exit> {
    refuse("mcp")
}

/// Refuses `milepost client`.
pub async fn client(_: ClientArgs, _: &Config) -> Result<Exit> {
    refuse("client")
}

/// Refuses `milepost token`.
pub fn token(_: TokenCommand, _: &Config) -> Result<Exit> {
    refuse("token")
}
