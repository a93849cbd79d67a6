//! `milepost config`: show and check.

use anyhow::Result;

use super::print_json;
use crate::cli::ConfigCommand;
use crate::config::Config;
use crate::exit::Exit;

/// Runs a `config` command; a configuration that does not load has failed before.
pub fn main(command: ConfigCommand, config: &Config) -> Result<Exit> {
    match command {
        ConfigCommand::Show(args) if args.json => print_json(config)?,
        ConfigCommand::Show(_) => print!("{}", serde_norway::to_string(config)?),
        ConfigCommand::Check => println!("the configuration is valid"),
    }
    Ok(Exit::Done)
}
