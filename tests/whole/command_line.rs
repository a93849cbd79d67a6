//! Tests of the command line: bad input gives one clear error with its exit code, and listings and reports can be parsed.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary in this directory, with its data in the directory `data` below it.
pub fn milepost(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_milepost"))
        .current_dir(directory)
        .args(arguments)
        .env("MILEPOST_EPISODES__DIRECTORY", directory.join("data"))
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Checks that the command fails with this exit code, and that its message on stderr contains all texts of `says`.
fn check_refusal(arguments: &[&str], environment: &[(&str, &str)], code: i32, says: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let output = milepost(directory.path(), arguments, environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for part in says {
        assert!(stderr.contains(part), "{arguments:?} should say {part:?}, but says: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn bad_input_is_refused_with_the_fix() {
    check_refusal(&["run", " ", "--url", "http://a.org/"], &[], 2, &["the goal is empty"]);
    check_refusal(&["run", "x", "--url", "ftp://a.org/"], &[], 2, &["ftp://a.org/", "http or https"]);
    check_refusal(&["run", "x", "--url", "a.org"], &[], 2, &["whole address"]);
    check_refusal(&["run", "x", "--url", "http://a.org/", "--check", "url has 3"], &[], 2, &["url contains"]);
    check_refusal(&["run", "x", "--url", "http://a.org/", "--planner", "oracle"], &[], 2, &["adaplan, subgoal, frozen or react"]);
    check_refusal(&["run", "x", "--url", "http://a.org/", "--secret", "p=env:NOT_SET_ANYWHERE"], &[], 2, &["NOT_SET_ANYWHERE", "export"]);
    check_refusal(&["suite", "show", "shop_pric"], &[], 2, &["did you mean shop_price?"]);
    check_refusal(&["adapters", "show", "nothing"], &[], 2, &["there is no generation", "adapters list"]);
    check_refusal(&["episodes", "show", "nothing"], &[], 2, &["there is no episode", "episodes list"]);
    check_refusal(&["--config", "missing.yaml", "config", "check"], &[], 2, &["missing.yaml", "does not exist"]);
}

#[test]
fn bad_settings_name_the_key() {
    check_refusal(&["config", "check"], &[("MILEPOST_LIMITS__MAX_STEPS", "many")], 2, &["limits.max_steps"]);
    check_refusal(&["config", "check"], &[("MILEPOST_BROWSER__HEADLES", "true")], 2, &["browser.headles", "did you mean `headless`?"]);
}

#[test]
fn a_missing_or_incomplete_model_is_named() {
    check_refusal(
        &["run", "x", "--url", "http://127.0.0.1:1/"],
        &[("MILEPOST_LOCAL__MODEL", "/nowhere/model")],
        2,
        &["/nowhere/model", "local.model"],
    );
    let model = tempfile::tempdir().unwrap();
    std::fs::write(model.path().join("config.json"), "{}").unwrap();
    let path = model.path().display().to_string();
    check_refusal(&["run", "x", "--url", "http://127.0.0.1:1/"], &[("MILEPOST_LOCAL__MODEL", &path)], 5, &[&path]);
}

#[test]
fn a_missing_browser_is_named() {
    check_refusal(
        &["observe", "http://127.0.0.1:1/"],
        &[("MILEPOST_BROWSER__CHROMIUM", "/nowhere/chromium"), ("MILEPOST_BROWSER__NO_SANDBOX", "true")],
        5,
        &["browser.chromium", "/nowhere/chromium"],
    );
}

/// Writes a program that prints this version and does nothing else; returns its path.
fn pretender(directory: &Path, name: &str, says: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_driver_of_another_version_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let chromium = pretender(directory.path(), "chromium", "Chromium 120.0.6099.1");
    let driver = pretender(directory.path(), "chromedriver", "ChromeDriver 119.0.6045.2");
    let settings = [
        ("MILEPOST_BROWSER__CHROMIUM", &chromium[..]),
        ("MILEPOST_BROWSER__CHROMEDRIVER", &driver),
        ("MILEPOST_BROWSER__NO_SANDBOX", "true"),
    ];
    check_refusal(&["observe", "http://127.0.0.1:1/"], &settings, 5, &["120.0.6099.1", "119.0.6045.2", "upgrade both"]);
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    check_refusal(&["suite", "serve", "shop_price", "--port", &port], &[], 5, &[&port, "choose another port"]);
}

#[test]
fn a_tokenizer_that_does_not_fit_the_weights_is_named() {
    let model = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed")).unwrap().flatten() {
        std::fs::copy(file.path(), model.path().join(file.file_name())).unwrap();
    }
    let path = model.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let tokens = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for extra in 0..64 {
        tokens.insert(format!("extra{extra}"), (4096 + extra).into());
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let model = model.path().display().to_string();
    check_refusal(&["run", "x", "--url", "http://127.0.0.1:1/"], &[("MILEPOST_LOCAL__MODEL", &model)], 5, &[&model, "tokenizer"]);
}

#[test]
fn listings_speak_json() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["suite", "list", "--json"][..],
        &["episodes", "list", "--json"],
        &["episodes", "quarantine", "--json"],
        &["adapters", "list", "--json"],
        &["config", "show", "--json"],
        &["suite", "show", "shop_price", "--json"],
    ] {
        let output = milepost(directory.path(), arguments, &[]);
        assert!(output.status.success(), "{arguments:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    }
}

#[test]
fn a_host_goes_into_quarantine_and_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = |arguments: &[&str]| milepost(directory.path(), &[&["episodes", "quarantine"], arguments].concat(), &[]);
    let output = quarantine(&["https://Shop.example:81/cart", "--reason", "it gives orders", "--json"]);
    let kept_out: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&kept_out[0]["host"], &kept_out[0]["reason"]), (&"shop.example".into(), &"it gives orders".into()));
    assert!(quarantine(&["shop.example", "--release"]).status.success());
    let again = quarantine(&["shop.example", "--release"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not in quarantine"));
    assert!(!quarantine(&["http://"]).status.success());
}

#[test]
fn completions_are_printed_for_every_shell() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = milepost(directory.path(), &["completions", shell], &[]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("milepost"), "{shell}");
    }
}

#[test]
fn the_report_of_the_suite_has_its_shape() {
    let directory = tempfile::tempdir().unwrap();
    let output = milepost(directory.path(), &["suite", "run", "--oracle", "--environment", "plain", "--episodes", "2", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "suite",
        "planner",
        "generation",
        "levels",
        "milestones",
        "invalid_actions",
        "model_ms_per_action_median",
        "overhead_ms_per_step_median",
        "seconds",
    ] {
        assert!(!report[key].is_null(), "{key} is missing in {report}");
    }
    assert_eq!(report["levels"]["long"]["solved"], 2);
    assert_eq!(report["milestones"]["premature"], 0);
}

/// The seed model judges episodes of each level, half of them cut short. Every question is asked, and a question without a verdict is
/// counted as missing.
#[test]
fn a_judge_is_audited_against_the_ground_truth() {
    let directory = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/seed");
    let arguments = ["judge", "audit", "--oracle", "--environment", "plain", "--episodes", "6", "--cut-short", "--steps", "1", "--json"];
    let output = milepost(directory.path(), &arguments, &[("MILEPOST_LOCAL__MODEL", model), ("MILEPOST_JUDGE__SAMPLES", "1")]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["solved"], 3, "{report}");
    for (question, asked) in [("completeness", 6), ("end_to_end", 6), ("adherence", 6), ("plan_correctness", 6)] {
        let row = &report["questions"][question];
        assert_eq!(row["n"].as_u64().unwrap() + row["missing"].as_u64().unwrap(), asked, "{question}: {row}");
    }
    let kept = std::fs::read_to_string(directory.path().join("data/verdicts.jsonl")).unwrap().lines().count() as u64;
    let given: u64 = ["completeness", "end_to_end", "adherence", "plan_correctness"]
        .iter()
        .map(|question| report["questions"][question]["n"].as_u64().unwrap())
        .sum();
    assert_eq!(kept, given);
}
