//! Tests of the whole program in real Chromium: the oracle on every template, the seed model, `observe` and `drive`, crashes, the examples.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crashes;
mod drive;
mod model;
mod suite;

use std::path::Path;
use std::process::{Command, Output};

use milepost::config::Config;

/// Returns the default configuration with changes for tests: data in this directory, no sandbox if the tests run as root, and enough time to
/// read a whole page on a busy machine.
pub fn config(directory: &Path) -> Config {
    let mut config = Config::default();
    config.browser.no_sandbox = is_root();
    config.browser.state_dir = Some(directory.join("browsers"));
    config.browser.read_ms = 5_000;
    config.episodes.directory = directory.join("data");
    config.local.model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed").into();
    config
}

/// Returns whether the tests run as root, for whom Chromium needs `no_sandbox`.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Prepares a run of the binary with the settings of [`config`].
pub fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command
        .current_dir(directory)
        .args(arguments)
        .env("MILEPOST_BROWSER__NO_SANDBOX", is_root().to_string())
        .env("MILEPOST_BROWSER__STATE_DIR", directory.join("browsers"))
        .env("MILEPOST_BROWSER__READ_MS", "5000")
        .env("MILEPOST_EPISODES__DIRECTORY", directory.join("data"))
        .env("MILEPOST_LOCAL__MODEL", concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed"));
    command
}

/// Runs the binary to its end.
pub fn milepost(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}
