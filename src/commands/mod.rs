//! The commands, one file each, and what they share.

mod adapters;
mod client;
mod doctor;
mod drive;
mod episodes;
mod generations;
mod improve;
mod judge;
mod learn;
mod mcp;
mod observe;
mod run;
mod serve;
mod settings;
pub mod suite;

use std::process::ExitCode;

use clap::CommandFactory;
use milepost_runtime::Error;

use crate::cli::{Cli, Command, LearnCommand};
use crate::exit::Exit;

/// Runs a command; its errors go to stderr with the exit code of their kind.
pub fn main(cli: Cli) -> ExitCode {
    // The daemon's log has its own form, which its configuration says.
    if !matches!(cli.command, Command::Serve(_)) {
        let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).unwrap_or_else(|_| "warn".into());
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    if let Err(message) = check_processor() {
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
        kind(&error)
    });
    // A wedged browser call must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    exit.into()
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    if let Command::Completions { shell } = &cli.command {
        clap_complete::generate(*shell, &mut Cli::command(), "milepost", &mut std::io::stdout());
        return Ok(Exit::Done);
    }
    // What an update or an experiment does stands in its own file, whatever configuration lies here.
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
        Command::Mcp => mcp::mcp(config).await,
        Command::Improve(args) => improve::improve(args, config).await,
        Command::Learn(command) => learn::main(command, config),
        Command::Serve(args) => serve::serve(args, config, cli.log).await,
        Command::Client(args) => client::main(args, &config).await,
        Command::Token(command) => serve::token(command, &config),
        Command::Adapters(command) => adapters::main(command, &config).await,
        Command::Config(command) => settings::main(command, &config),
        Command::Doctor(args) => doctor::doctor(&args, &config),
        Command::Completions { .. } | Command::Experiment(_) => Ok(Exit::Done),
    }
}

/// Marks an error of the configuration or the caller's input.
#[derive(Debug, thiserror::Error)]
#[error("bad input")]
pub struct BadConfig;

/// The exit code of an error's kind.
fn kind(error: &anyhow::Error) -> Exit {
    let bad_input = error.downcast_ref::<BadConfig>().is_some()
        || error
            .chain()
            .any(|cause| matches!(cause.downcast_ref::<Error>(), Some(Error::BadInput(_) | Error::Parse { .. } | Error::Secret { .. })));
    if bad_input { Exit::BadInput } else { Exit::Environment }
}

/// The binary is built for x86-64-v3; an older processor gets a sentence instead of an illegal instruction.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> Result<(), String> {
    let missing: Vec<&str> =
        [("avx2", is_x86_feature_detected!("avx2")), ("fma", is_x86_feature_detected!("fma")), ("bmi2", is_x86_feature_detected!("bmi2"))]
            .into_iter()
            .filter_map(|(name, there)| (!there).then_some(name))
            .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "this binary is built for x86-64-v3 processors (2013 and later), and this one lacks {}; remove the `rustflags` line in .cargo/config.toml and build again (quantised models will be 5 to 10 times slower)",
            missing.join(", ")
        )),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn check_processor() -> Result<(), String> {
    Ok(())
}

/// Prints a value as one JSON object.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Becomes true at Ctrl-C or SIGTERM; a second one ends the process at once.
pub(crate) fn cancellation() -> tokio::sync::watch::Receiver<bool> {
    let (sender, receiver) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => return tracing::warn!(%error, "SIGTERM cannot be caught"),
        };
        for first in [true, false] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            match first {
                true => {
                    eprintln!("milepost: cancelling (press Ctrl-C again to end at once)");
                    if sender.send(true).is_err() {
                        return;
                    }
                }
                false => std::process::exit(Exit::Cancelled.code().into()),
            }
        }
    });
    receiver
}
