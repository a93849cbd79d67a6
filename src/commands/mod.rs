//! The commands, one file each, and the dispatch to them.

mod adapters;
#[cfg(feature = "daemon")]
mod client;
#[cfg(feature = "daemon")]
mod daemon;
#[cfg(not(feature = "daemon"))]
#[path = "daemon_absent.rs"]
mod daemon;
mod doctor;
mod drive;
mod episodes;
mod generations;
mod improve;
mod judge;
mod learn;
mod observe;
mod run;
mod settings;
pub mod suite;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command, LearnCommand};
use crate::exit::{BadConfig, Exit};
use crate::processor;

/// Runs a command. An error is printed to stderr and becomes the exit code of its kind.
pub fn main(cli: Cli) -> ExitCode {
    // The daemon sets up its own log, whose form is configured.
    if !matches!(cli.command, Command::Serve(_)) {
        let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).unwrap_or_else(|_| "warn".into());
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    if let Err(message) = processor::check() {
        eprintln!("milepost: {message}");
        return Exit::Environment.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("milepost: no threads can be started: {error}; raise the process limit");
            return Exit::Environment.into();
        }
    };
    let exit = runtime.block_on(dispatch(cli)).unwrap_or_else(|error| {
        eprintln!("milepost: {error:#}");
        Exit::of_error(&error)
    });
    // A browser call that hangs must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    exit.into()
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    if let Command::Completions { shell } = &cli.command {
        clap_complete::generate(*shell, &mut Cli::command(), "milepost", &mut std::io::stdout());
        return Ok(Exit::Done);
    }
    // An update or an experiment takes all its settings from its own file, whatever configuration this directory has.
    let command = match cli.command {
        Command::Learn(LearnCommand::Policy { request, nice, memory_gib }) => return improve::update(&request, nice, memory_gib).await,
        Command::Experiment(args) => return improve::experiment(args).await,
        command => command,
    };
    let config = crate::config::load(cli.config.as_deref()).map_err(|error| error.context(BadConfig))?;
    match command {
        Command::Run(args) => run::run(args, config).await,
        Command::Suite(command) => suite::main(command, config).await,
        Command::Observe(args) => observe::observe(args, config).await,
        Command::Drive(args) => drive::drive(args, config).await,
        Command::Episodes(command) => episodes::main(command, config).await,
        Command::Judge(command) => judge::main(command, config).await,
        Command::Mcp => daemon::mcp(config).await,
        Command::Improve(args) => improve::improve(args, config).await,
        Command::Learn(command) => learn::main(command, config),
        Command::Serve(args) => daemon::serve(args, config, cli.log).await,
        Command::Client(args) => daemon::client(args, &config).await,
        Command::Token(command) => daemon::token(command, &config),
        Command::Adapters(command) => adapters::main(command, &config).await,
        Command::Config(command) => settings::main(command, &config),
        Command::Doctor(args) => doctor::doctor(&args, &config),
        Command::Completions { .. } | Command::Experiment(_) => Ok(Exit::Done),
    }
}
