//! `milepost serve`, `mcp`, `client` and `token`.

use anyhow::Result;
use chrono::{Duration, Utc};
use milepost_server::auth::{NewToken, Tokens};

use crate::cli::{ClientArgs, ServeArgs, TokenCommand};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::output::print_json;
use crate::signals::cancellation;

/// The log filter of a daemon that is started without one.
const LOG: &str = "warn,milepost=info";

/// Runs the daemon.
pub async fn serve(args: ServeArgs, mut config: Config, log: String) -> Result<Exit> {
    config.serve.port = args.port.unwrap_or(config.serve.port);
    config.serve.listen = args.listen.unwrap_or(config.serve.listen);
    config.serve.token_file = args.token_file.or(config.serve.token_file);
    let log = if log == "warn" { LOG.to_owned() } else { log };
    daemon::serve(config, args.ready_file, &log, cancellation()).await
}

/// Serves MCP over stdin and stdout.
pub async fn mcp(config: Config) -> Result<Exit> {
    daemon::serve_mcp(config, cancellation()).await
}

/// Runs a `client` command.
pub async fn client(args: ClientArgs, config: &Config) -> Result<Exit> {
    super::client::main(args, config).await
}

/// Runs a `token` command.
pub fn token(command: TokenCommand, config: &Config) -> Result<Exit> {
    let (file, directory) = (daemon::token_file(config), daemon::directory(config));
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
            let scope = scope.parse().map_err(milepost_runtime::Error::BadInput)?;
            let expires_at = days.map(|days| Utc::now() + Duration::days(i64::from(days)));
            println!("{}", tokens.add(NewToken { name, scope, expires_at })?);
        }
        TokenCommand::Revoke { name } => tokens.revoke(&name)?,
        TokenCommand::Rotate if made => println!("{}", file.display()),
        TokenCommand::Rotate => println!("{}", tokens.rotate()?.display()),
    }
    Ok(Exit::Done)
}
