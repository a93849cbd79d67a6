//! `milepost config`: shows and checks the configuration.

use anyhow::Result;

use crate::cli::ConfigCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;

/// Runs a `config` command. An invalid configuration is refused before, when it is loaded.
pub fn main(command: ConfigCommand, config: &Config) -> Result<Exit> {
    match command {
        ConfigCommand::Show(args) if args.json => print_json(config)?,
        ConfigCommand::Show(_) => print!("{}", serde_norway::to_string(config)?),
        ConfigCommand::Check => println!("the configuration is valid"),
    }
    Ok(Exit::Done)
}
