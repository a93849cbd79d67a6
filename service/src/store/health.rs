//! Whether the database can be written.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::error::Error;
use crate::sync::lock;

/// The last failure to write the database.
#[derive(Default)]
pub(crate) struct WriteHealth {
    /// The message of the failure; `None` if the last probe succeeded and no write has failed since.
    failure: Mutex<Option<String>>,
    /// Notified when a write fails after the last one had succeeded.
    pub(crate) changed: Notify,
}

impl WriteHealth {
    /// Returns the message of the last failure, or `None` if the database can be written.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Records that the database can be written.
    pub(super) fn succeeded(&self) {
        lock(&self.failure).take();
    }

    /// Records that a write failed.
    pub(super) fn failed(&self, error: &Error) {
        if lock(&self.failure).replace(error.to_string()).is_none() {
            self.changed.notify_one();
        }
    }
}
