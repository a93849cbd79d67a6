//! The files that put the daemon on a machine: what they call is what the binary takes, and their bounds fit its own.

use std::process::Command;

use clap::Parser;
use milepost::cli::{self, Cli};
use milepost::config::Config;
use serde_json::Value;

const UNIT: &str = include_str!("../../deploy/milepost.service");
const IMAGE: &str = include_str!("../../deploy/Dockerfile");

/// The values of a unit's key.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Settings as they stand in a file, each one known to the configuration.
fn check_settings(settings: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings.iter().copied().filter(|(name, _)| name.starts_with("MILEPOST_"));
    let output =
        Command::new(env!("CARGO_BIN_EXE_milepost")).args(["config", "check"]).envs(settings).current_dir(&directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn check_serves<'a>(line: impl IntoIterator<Item = &'a str>) -> cli::ServeArgs {
    match Cli::try_parse_from(line).unwrap().command {
        cli::Command::Serve(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_unit_starts_the_daemon_and_waits_for_its_drain() {
    let args = check_serves(unit("ExecStart")[0].split(' '));
    assert!(args.ready_file.unwrap().starts_with("/run/milepost"), "in the runtime directory");
    let settings: Vec<_> = unit("Environment").iter().map(|setting| setting.split_once('=').unwrap()).collect();
    assert!(settings.contains(&("MILEPOST_EPISODES__DIRECTORY", "/var/lib/milepost/data")), "all that is kept is in the state directory");
    check_settings(&settings);
    let bound: u64 = unit("TimeoutStopSec")[0].parse().unwrap();
    // Followers have 3 s after the drain, threads 5 s.
    assert!(bound > Config::default().service.drain_seconds + 8, "systemd does not kill what still drains");
    for (key, value) in [
        ("KillSignal", "SIGTERM"),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("StateDirectory", "milepost"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("CapabilityBoundingSet", ""),
        ("UMask", "0077"),
    ] {
        assert_eq!(unit(key), [value], "{key}");
    }
}

#[test]
fn systemd_takes_the_unit() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else { return };
    assert!(version.status.success());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("milepost.service");
    std::fs::write(&file, UNIT.replace("/usr/local/bin/milepost", env!("CARGO_BIN_EXE_milepost"))).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("milepost.service:"), "{said}");
}

#[test]
fn the_image_runs_the_daemon_as_nobody_special() {
    let lines: Vec<String> = IMAGE.replace("\\\n", " ").lines().map(str::to_owned).collect();
    let of = |word: &str| lines.iter().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect::<Vec<_>>();
    let words = |word: &str| serde_json::from_str::<Vec<String>>(of(word)[0]).unwrap();
    let line = [words("ENTRYPOINT"), words("CMD")].concat();
    let args = check_serves(line.iter().map(String::as_str));
    assert_eq!(of("EXPOSE"), [args.port.unwrap().to_string()]);
    let last_stage = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert!(of("FROM").len() == 2 && of("FROM")[0].ends_with("AS build"), "what builds does not stay");
    assert!(lines[last_stage..].iter().any(|line| line == "USER milepost") && of("STOPSIGNAL") == ["SIGTERM"]);
    let check = of("HEALTHCHECK")[0].split_once("CMD ").unwrap().1;
    let check: Value = serde_json::from_str(check).unwrap();
    assert_eq!(check[check.as_array().unwrap().len() - 1], format!("http://127.0.0.1:{}/healthz", args.port.unwrap()));
    let settings: Vec<_> = of("ENV")[0].split_whitespace().filter_map(|setting| setting.split_once('=')).collect();
    assert!(settings.contains(&("MILEPOST_SERVE__ALLOW_REMOTE", "true")), "it listens beyond the container's loopback");
    check_settings(&settings);
}
