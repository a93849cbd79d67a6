//! Where a runner reports and asks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Result;
use crate::event::EventKind;
use crate::record::{ApprovalRequest, Decision};
use crate::service::JobState;

/// A runner's desk: cheap to clone, and dead as soon as the task is not this runner's any more.
#[derive(Clone)]
pub struct Desk {
    pub(crate) job: Arc<JobState>,
}

impl Desk {
    /// Reports an event (of the kinds plan, milestone, step) and renews the lease. It is written down in order, soon, and before the task ends.
    pub fn emit(&self, kind: EventKind) {
        let _ = kind;
        unreachable!()
    }

    /// Renews the lease: for long work between two events.
    pub fn beat(&self) {}

    /// Becomes true when the run should end.
    pub fn cancel(&self) -> watch::Receiver<bool> {
        unreachable!()
    }

    /// Asks a person and waits; the worker is free meanwhile, and the lease does not run.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost), or a store that cannot write.
    pub async fn ask(&self, request: ApprovalRequest) -> Result<Decision> {
        let _ = request;
        unreachable!()
    }

    /// What people said since this was last called; the first call of an attempt returns all that was ever said.
    pub fn messages(&self) -> Vec<String> {
        unreachable!()
    }

    /// Writes the episode's id to the task as soon as it is known.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost), or a store that cannot write.
    pub async fn episode(&self, id: &str) -> Result<()> {
        let _ = id;
        unreachable!()
    }

    /// Writes down that the run is about to change something: awaited before the first action with a side effect. Later calls cost nothing.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::Error::Lost), or a store that cannot write: then the action must not be carried out.
    pub async fn acted(&self) -> Result<()> {
        unreachable!()
    }
}
