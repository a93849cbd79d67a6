//! The house: arrows between the crates point one way, and each library is named in its own room only.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// For each crate, the crates of this workspace that it may depend on (dev-dependencies included).
const ARROWS: [(&str, &[&str]); 8] = [
    ("milepost-runtime", &[]),
    ("milepost-text", &["milepost-runtime"]),
    ("milepost-engines", &["milepost-learners", "milepost-runtime", "milepost-text"]),
    ("milepost-learners", &["milepost-runtime", "milepost-text"]),
    ("milepost-tools", &["milepost-runtime"]),
    ("milepost-planners", &["milepost-runtime"]),
    ("milepost-suites", &["milepost-runtime"]),
    ("milepost-service", &["milepost-runtime"]),
];

/// Libraries that only one crate may name.
const ROOMS: [(&str, &[&str]); 7] = [
    ("mistralrs", &["milepost-engines"]),
    ("mistralrs-core", &["milepost-engines"]),
    ("mistralrs-quant", &["milepost-engines"]),
    ("fantoccini", &["milepost-tools"]),
    ("llguidance", &["milepost-text"]),
    ("tokenizers", &["milepost-text"]),
    ("sqlx", &["milepost-runtime", "milepost-service"]),
];

/// The packages of this workspace with the names of all their dependencies, those of tests included.
fn packages() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (name(package), package["dependencies"].as_array().unwrap().iter().map(name).collect())).collect()
}

#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (from, dependencies) in packages() {
        for to in dependencies {
            let (from, to) = (from.as_str(), to.as_str());
            if to.starts_with("milepost-") && from != "milepost" && !allowed.get(from).is_some_and(|known| known.contains(&to)) {
                wrong.push(format!("{from} → {to}"));
            }
            if ROOMS.iter().any(|(library, rooms)| *library == to && !rooms.contains(&from)) {
                wrong.push(format!("{from} names {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the map does not draw: {wrong:?}");
}

#[test]
fn every_crate_is_on_the_map() {
    for (name, _) in packages() {
        assert!(
            name == "milepost" || ARROWS.iter().any(|(known, _)| *known == name),
            "{name} is missing in ARROWS and docs/architecture.md"
        );
    }
}

#[test]
fn the_loop_stays_readable() {
    let lines = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/runtime/src/agent.rs")).unwrap().lines().count();
    assert!(lines < 200, "runtime/src/agent.rs has {lines} lines");
}
