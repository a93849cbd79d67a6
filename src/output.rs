//! Prints results for other programs.

/// Prints a value as one JSON object on one line.
///
/// # Errors
/// The value cannot be serialized.
pub fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
