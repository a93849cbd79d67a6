//! The trait of implementations that carry tasks out.

use async_trait::async_trait;

use crate::handle::TaskHandle;
use crate::record::TaskRecord;
use crate::report::{Report, RunFailure};
use crate::submission::Submission;

/// A task to carry out.
pub struct Job {
    /// The task's record at the start of the run.
    pub record: TaskRecord,
    /// The handle for reports, approvals, messages and cancellation.
    pub handle: TaskHandle,
}

/// Carries tasks out; the daemon's implementation is an agent with a browser and a model.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Checks the parts of a submission that only the runner can check (for example the planner's name) before the submission is queued.
    ///
    /// # Errors
    /// The runner cannot carry the submission out; the text says why and what to do.
    fn check(&self, submission: &Submission) -> Result<(), String> {
        let _ = submission;
        Ok(())
    }

    /// Carries one task out. The future may be dropped at any await; whatever the run has started must end then.
    async fn run(&self, job: Job) -> Result<Report, RunFailure>;
}
