//! What a row measured, and the counts it runs with.

use serde_json::Value;

/// A count of a row, raised by an environment variable.
pub fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// Writes down what a row measured, where somebody collects it.
pub fn record(row: &str, figures: &Value) {
    println!("{row}: {figures}");
    if let Ok(directory) = std::env::var("DAEMON_FIGURES") {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(format!("{directory}/{row}.json"), figures.to_string()).unwrap();
    }
}
