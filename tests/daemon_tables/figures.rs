//! What a row measured, and the counts it runs with.

use std::time::Duration;

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

/// The value below which this share of the times lies, in milliseconds.
pub fn quantile_ms(times: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    (sorted[rank.clamp(1, sorted.len()) - 1] * 1e5).round() / 100.0
}
