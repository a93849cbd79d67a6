//! Turns errors of the program into errors of the improvement loop.

/// Turns an error of the program into one of the loop, which keeps its causes.
pub(super) fn host_error(error: anyhow::Error) -> milepost_improve::Error {
    match error.downcast::<milepost_runtime::Error>() {
        Ok(error) => error.into(),
        Err(error) => milepost_improve::Error::Host(error.into()),
    }
}
