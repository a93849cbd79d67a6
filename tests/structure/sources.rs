//! The Rust files of the workspace.

use std::path::{Path, PathBuf};

use super::packages;

/// A Rust file.
pub struct Source {
    /// The path in the repository.
    pub path: String,
    /// The content.
    pub text: String,
}

/// Adds the Rust files below a folder. A folder that does not exist has none.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Reads the Rust files of all crates, tests, examples and benchmarks included, sorted by path.
pub fn all_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for package in packages() {
        let base = if package.folder == "src" { root.to_owned() } else { root.join(&package.folder) };
        ["src", "tests", "examples", "benches"].iter().for_each(|part| collect(&base.join(part), &mut files));
    }
    files.sort();
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        Source { path: path.strip_prefix(root).unwrap().display().to_string(), text }
    };
    let sources: Vec<Source> = files.into_iter().map(source).collect();
    assert!(sources.len() > 200, "only {} files were found", sources.len());
    sources
}
