//! The structure of the repository: which crate may depend on which, the graph of the crates, circles between files, and sizes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrows;
mod circle_cases;
mod circles;
mod definers;
mod edges;
mod modules;
mod picture;
mod sizes;
mod sources;
mod tokens;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A crate of this workspace.
struct Package {
    name: String,
    /// The folder in the repository. For the binary's crate it is `src`.
    folder: String,
    dependencies: Vec<Dependency>,
}

/// A dependency of a crate.
struct Dependency {
    name: String,
    /// Whether only the tests need it.
    for_tests: bool,
}

/// Lists the crates of this workspace.
fn packages() -> Vec<Package> {
    let root = env!("CARGO_MANIFEST_DIR");
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap().strip_prefix(root).unwrap().display().to_string();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        Package {
            name: text(&package["name"]),
            folder: if folder.is_empty() { "src".into() } else { folder },
            dependencies: dependencies.map(|one| Dependency { name: text(&one["name"]), for_tests: one["kind"] == "dev" }).collect(),
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}
