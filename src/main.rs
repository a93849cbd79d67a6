//! The `milepost` binary.

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = milepost::cli::Cli::parse();
    milepost::commands::main(cli)
}
