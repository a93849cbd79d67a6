//! The measurements of a test, and the counts with which it runs.

use serde_json::Value;

/// Returns a count from an environment variable, or the default.
pub fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// Prints measurements, and writes them as `NAME.json` into the directory that `DAEMON_FIGURES` names, if it is set.
pub fn record(name: &str, measurements: &Value) {
    println!("{name}: {measurements}");
    if let Ok(directory) = std::env::var("DAEMON_FIGURES") {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(format!("{directory}/{name}.json"), measurements.to_string()).unwrap();
    }
}
