//! Helpers for code that runs concurrently.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Locks a mutex whose data stays consistent even when a thread panics while it holds the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a change to its end even when the caller's future is dropped meanwhile, because a commit without the steps that must follow it
/// would be a partial change.
///
/// # Errors
/// The change fails or panics.
pub(crate) async fn run_to_completion<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(error) => Err(Error::Store { path: "service.sqlite".into(), reason: format!("a change broke off: {error}; try again") }),
    }
}
