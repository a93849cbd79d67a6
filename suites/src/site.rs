//! A site: state in memory and the pages over it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;

/// A site's state, shared by the handlers of its router and its checker.
pub(crate) type Shared<S> = Arc<Mutex<S>>;

/// Locks a site's state, also after a handler has panicked.
pub(crate) fn lock<S>(shared: &Mutex<S>) -> MutexGuard<'_, S> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A site's state that can be served as pages.
pub(crate) trait Site: Send + Sized + 'static {
    /// Builds the router of the site's pages over a shared state.
    fn router(shared: Shared<Self>) -> Router;
}
