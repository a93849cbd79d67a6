//! The one error type of the contracts; every variant says what to do.

use crate::call::Call;

/// Result of a runtime operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the runtime or behind one of its traits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Text that is no action, plan, check or observation.
    #[error("cannot read {what}: {reason} (in {text:?})")]
    Parse {
        /// What was being read.
        what: &'static str,
        /// Why it could not be read.
        reason: String,
        /// The offending text.
        text: String,
    },
    /// What a model wrote without a grammar cannot be read; the call that wrote it is kept, since a learner needs it.
    #[error("the model's answer cannot be read: {reason}")]
    Malformed {
        /// Why it could not be read.
        reason: String,
        /// The call.
        call: Box<Call>,
    },
    /// A plan revision that breaks a rule of the plan.
    #[error("the plan refuses this revision: {0}")]
    Revision(String),
    /// The environment (browser, site) failed; the message names the process or page and the fix.
    #[error("environment: {0}")]
    Environment(String),
    /// The environment died (browser killed); the loop may retry once in a new session.
    #[error("the browser session is gone: {0}")]
    EnvironmentGone(String),
    /// The model engine failed.
    #[error("engine: {0}")]
    Engine(String),
    /// What is served is not what was trained, or nothing tells that it is.
    #[error("proof: {0}")]
    Unproved(String),
    /// The prompt does not fit the model.
    #[error(
        "the prompt has {tokens} tokens but the model takes {limit} with room for {reserved} of output; lower `policy.page_lines` or use a model with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's limit.
        limit: usize,
        /// Tokens reserved for the output.
        reserved: usize,
    },
    /// A policy could not decide.
    #[error("policy: {0}")]
    Policy(String),
    /// A judge has no verdict: it is missing, never zero.
    #[error("no verdict: {0}")]
    Judge(String),
    /// Bad input of the caller.
    #[error("{0}")]
    BadInput(String),
    /// A secret that is not known or not bound to this place.
    #[error("secret {name:?}: {reason}")]
    Secret {
        /// The secret's name.
        name: String,
        /// Why it is refused.
        reason: String,
    },
    /// The episode store failed.
    #[error("episode store {path}: {reason}")]
    Store {
        /// The database file.
        path: String,
        /// What happened and what to do.
        reason: String,
    },
    /// A file or directory that cannot be used.
    #[error("{path} {reason}")]
    File {
        /// The file or directory.
        path: String,
        /// What is wrong with it and what to do; follows the path in a sentence.
        reason: String,
    },
}

impl Error {
    /// An error about a file; the reason follows the path in a sentence.
    pub fn file(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.display().to_string(), reason: reason.into() }
    }

    /// A parse error.
    pub fn parse(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self::Parse { what, reason: reason.into(), text: text.chars().take(200).collect() }
    }
}
