//! The files in `deploy/` (the unit of systemd and the container image): the binary accepts their arguments and settings, and their limits
//! fit its own.

use std::process::Command;

use clap::Parser;
use milepost::cli::{self, Cli};
use milepost::config::Config;
use serde_json::Value;

const UNIT: &str = include_str!("../../deploy/milepost.service");
const IMAGE: &str = include_str!("../../deploy/Dockerfile");

/// Returns the values of a key of the systemd unit.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Checks that the configuration knows each of these environment variables that begins with `MILEPOST_`.
fn check_settings(settings: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings.iter().copied().filter(|(name, _)| name.starts_with("MILEPOST_"));
    let output =
        Command::new(env!("CARGO_BIN_EXE_milepost")).args(["config", "check"]).envs(settings).current_dir(&directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Parses a command line, which must be one of `milepost serve`.
fn parse_serve<'a>(line: impl IntoIterator<Item = &'a str>) -> cli::ServeArgs {
    match Cli::try_parse_from(line).unwrap().command {
        cli::Command::Serve(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_unit_starts_the_daemon_and_gives_it_time_to_shut_down() {
    let args = parse_serve(unit("ExecStart")[0].split(' '));
    assert!(args.ready_file.unwrap().starts_with("/run/milepost"), "the file is outside the runtime directory");
    let settings: Vec<_> = unit("Environment").iter().map(|setting| setting.split_once('=').unwrap()).collect();
    assert!(settings.contains(&("MILEPOST_EPISODES__DIRECTORY", "/var/lib/milepost/data")), "the data is outside the state directory");
    check_settings(&settings);
    let timeout: u64 = unit("TimeoutStopSec")[0].parse().unwrap();
    // After the drain, followers have 3 s and threads 5 s to end.
    assert!(timeout > Config::default().service.drain_seconds + 8, "systemd would kill the daemon before its shutdown is complete");
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
fn systemd_accepts_the_unit() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else { return };
    assert!(version.status.success());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("milepost.service");
    std::fs::write(&file, UNIT.replace("/usr/local/bin/milepost", env!("CARGO_BIN_EXE_milepost"))).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&file).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("milepost.service:"), "{stderr}");
}

#[test]
fn the_image_runs_the_daemon_as_an_unprivileged_user() {
    let lines: Vec<String> = IMAGE.replace("\\\n", " ").lines().map(str::to_owned).collect();
    let instructions = |name: &str| lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect::<Vec<_>>();
    let words = |name: &str| serde_json::from_str::<Vec<String>>(instructions(name)[0]).unwrap();
    let line = [words("ENTRYPOINT"), words("CMD")].concat();
    let args = parse_serve(line.iter().map(String::as_str));
    assert_eq!(instructions("EXPOSE"), [args.port.unwrap().to_string()]);
    let last_stage = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let stages = instructions("FROM");
    assert!(stages.len() == 2 && stages[0].ends_with("AS build"), "the final image contains the tools of the build");
    assert!(lines[last_stage..].iter().any(|line| line == "USER milepost") && instructions("STOPSIGNAL") == ["SIGTERM"]);
    let check = instructions("HEALTHCHECK")[0].split_once("CMD ").unwrap().1;
    let check: Value = serde_json::from_str(check).unwrap();
    assert_eq!(check[check.as_array().unwrap().len() - 1], format!("http://127.0.0.1:{}/healthz", args.port.unwrap()));
    let settings: Vec<_> = instructions("ENV")[0].split_whitespace().filter_map(|setting| setting.split_once('=')).collect();
    assert!(settings.contains(&("MILEPOST_SERVE__ALLOW_REMOTE", "true")), "it listens on the container's loopback interface only");
    check_settings(&settings);
}
