//! `milepost serve` and `milepost token`.

use anyhow::Result;
use chrono::{Duration, Utc};

use super::{cancellation, print_json};
use crate::cli::{ServeArgs, TokenCommand};
use crate::config::Config;
use crate::exit::Exit;
use crate::serve::auth::{NewToken, Tokens};
use crate::serve::{self, Start};

/// What is logged where nothing else was asked for.
const LOG: &str = "warn,milepost=info";

/// Runs the daemon.
pub async fn serve(args: ServeArgs, mut config: Config, log: String) -> Result<Exit> {
    config.serve.port = args.port.unwrap_or(config.serve.port);
    config.serve.listen = args.listen.unwrap_or(config.serve.listen);
    config.serve.token_file = args.token_file.or(config.serve.token_file);
    let log = if log == "warn" { LOG.to_owned() } else { log };
    serve::serve(config, Start { ready_file: args.ready_file, log }, cancellation()).await
}

/// Runs a `token` command.
pub fn token(command: TokenCommand, config: &Config) -> Result<Exit> {
    let (file, directory) = (serve::token_file(config), serve::directory(config));
    let (tokens, made) = Tokens::open(&file, &directory)?;
    match command {
        TokenCommand::List(args) if args.json => print_json(&tokens.list()?)?,
        TokenCommand::List(_) => {
            println!("admin  admin  in {}", file.display());
            for row in tokens.list()? {
                let until = row.expires_at.map_or("never expires".to_owned(), |until| format!("until {}", until.format("%Y-%m-%d %H:%M")));
                println!("{}  {}  {until}", row.name, row.scope.word());
            }
        }
        TokenCommand::Add { name, scope, days } => {
            let expires_at = days.map(|days| Utc::now() + Duration::days(i64::from(days)));
            println!("{}", tokens.add(NewToken { name, scope, expires_at })?);
        }
        TokenCommand::Revoke { name } => tokens.revoke(&name)?,
        TokenCommand::Rotate if made => println!("{}", file.display()),
        TokenCommand::Rotate => println!("{}", tokens.rotate()?.display()),
    }
    Ok(Exit::Done)
}
