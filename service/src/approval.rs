//! Approvals: the question that a runner puts to a person, and its answer.

use serde::{Deserialize, Serialize};

use crate::state::CancelCause;

/// An action that a person must approve or deny.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The action in one line.
    pub action: String,
    /// The reason why the action needs approval.
    pub reason: String,
    /// Address of the page on which the action would be carried out.
    pub url: Option<String>,
    /// Screenshot file of that page, relative to the episodes' directory.
    pub screenshot: Option<String>,
}

/// The answer to an [`ApprovalRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A person approved the action, with an optional note.
    Approved(Option<String>),
    /// A person denied the action, with an optional note.
    Denied(Option<String>),
    /// Nobody decided: the task was cancelled, its deadline passed or the service shuts down, and the runner should end.
    Ended(CancelCause),
}
