//! The one error type of the contracts; every variant says what to do.

use crate::call::Call;

/// Result of a runtime operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the runtime, or of an implementation of one of its traits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text is no action, plan, check or observation.
    #[error("cannot read {what}: {reason} (in {text:?})")]
    Parse {
        /// The kind of text that was expected, such as `plan`.
        what: &'static str,
        /// Why it could not be parsed.
        reason: String,
        /// The text.
        text: String,
    },
    /// A model's output cannot be parsed, which is possible only without a grammar or if the call ran out of tokens. The call is kept,
    /// since a learner needs it.
    #[error("the model's answer cannot be read: {reason}")]
    Malformed {
        /// Why it could not be parsed.
        reason: String,
        /// The call.
        call: Box<Call>,
    },
    /// A revision breaks a rule of the plan.
    #[error("the plan refuses this revision: {0}")]
    Revision(String),
    /// The environment (browser, site) failed; the message names the process or page and the fix.
    #[error("environment: {0}")]
    Environment(String),
    /// The environment died, for example because the browser was killed; the loop may try once more in a new session.
    #[error("the browser session is gone: {0}")]
    EnvironmentGone(String),
    /// The model engine failed.
    #[error("engine: {0}")]
    Engine(String),
    /// The served model is not the one that was trained, or there is no proof that it is.
    #[error("proof: {0}")]
    Unproved(String),
    /// The prompt does not fit the model.
    #[error(
        "the prompt has {tokens} tokens but the model takes {limit} with room for {reserved} of output; lower `policy.page_lines` or use a model with a longer context"
    )]
    PromptTooLong {
        /// Number of tokens in the prompt.
        tokens: usize,
        /// The model's limit in tokens.
        limit: usize,
        /// Number of tokens reserved for the output.
        reserved: usize,
    },
    /// A policy could not decide.
    #[error("policy: {0}")]
    Policy(String),
    /// A judge gave no verdict; the verdict is missing, never zero.
    #[error("no verdict: {0}")]
    Judge(String),
    /// The caller's input is bad.
    #[error("{0}")]
    BadInput(String),
    /// A secret is not known, not bound to the page's origin, or too short to be hidden.
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
    /// A file or directory cannot be used.
    #[error("{path} {reason}")]
    File {
        /// The file or directory.
        path: String,
        /// What is wrong with it and what to do; follows the path in a sentence.
        reason: String,
    },
}

impl Error {
    /// Makes an error about a file; the reason follows the path in a sentence.
    pub fn file(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.display().to_string(), reason: reason.into() }
    }

    /// Makes a parse error.
    pub fn parse(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self::Parse { what, reason: reason.into(), text: text.chars().take(200).collect() }
    }
}
