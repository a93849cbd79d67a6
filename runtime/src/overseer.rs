//! Human oversight of a run: a person decides about refused actions, is informed before the first side effect, and can send messages.

use async_trait::async_trait;

use crate::action::Action;
use crate::error::Result;

/// An action that the capability refuses.
#[derive(Debug)]
pub struct RefusedAction<'a> {
    /// The action.
    pub action: &'a Action,
    /// Why it is refused.
    pub reason: &'a str,
    /// The address of the page on which it would be carried out.
    pub url: &'a str,
    /// The page as a PNG, if the environment can draw one: a file relative to the store's directory.
    pub screenshot: Option<&'a str>,
}

/// A person's decision about a refused action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalDecision {
    /// This one action is carried out. If it was refused for its host, the run may reach that host from now on, and nothing else.
    Approved,
    /// The action is not carried out; its outcome is a failure with the person's note, and the run continues.
    Denied(Option<String>),
    /// There is no decision: the run ends as it does without an overseer.
    Undecided,
}

/// A person who oversees a run, or a program that acts for one.
#[async_trait]
pub trait Overseer: Send + Sync {
    /// Decides about a refused action. The time until the decision does not count towards the run's time limit.
    ///
    /// # Errors
    /// The decision cannot be obtained; the error ends the run.
    async fn decide(&self, refused: RefusedAction<'_>) -> Result<ApprovalDecision>;

    /// Is called and awaited before every action with a side effect.
    ///
    /// # Errors
    /// The action must not be carried out; the error ends the run.
    async fn before_side_effect(&self, _action: &Action) -> Result<()> {
        Ok(())
    }

    /// Returns the messages to the agent that have arrived since the last call.
    fn take_messages(&self) -> Vec<String> {
        Vec::new()
    }
}
