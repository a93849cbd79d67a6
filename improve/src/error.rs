//! The error type of this crate.

use std::error::Error as StdError;

/// An error of the improvement loop; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the runtime's contracts, stores or registry.
    #[error(transparent)]
    Runtime(#[from] milepost_runtime::Error),
    /// An error of the trainer.
    #[error(transparent)]
    Learners(#[from] milepost_learners::Error),
    /// An error of tokenizer, template or grammar.
    #[error(transparent)]
    Text(#[from] milepost_text::Error),
    /// A file or process could not be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value could not be written as JSON or read from it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// An experiment's file could not be read.
    #[error(transparent)]
    Yaml(#[from] serde_norway::Error),
    /// A configuration key has an invalid value.
    #[error("configuration key `{key}`: {problem}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with the value, and what would be right.
        problem: String,
    },
    /// A pair of outcomes or a task cannot be used.
    #[error("number {index} of the list: {problem}")]
    Item {
        /// The index in its list.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An error with a description of what was being done.
    #[error("{context}")]
    Context {
        /// The description of what was being done.
        context: String,
        /// The error.
        source: Box<Error>,
    },
    /// A person cancelled the run.
    #[error("cancelled; `milepost improve --resume` goes on where it stopped")]
    Cancelled,
    /// The run failed for the reason that the message gives.
    #[error("{0}")]
    Failed(String),
    /// An error of the suite, the models or the prompts that the program injects.
    #[error(transparent)]
    Host(Box<dyn StdError + Send + Sync>),
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error of bad input or configuration, which ends the program with exit code 2.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::Runtime(milepost_runtime::Error::BadInput(message.into()))
    }

    /// Returns the runtime's error behind this one, if there is one.
    pub fn runtime(&self) -> Option<&milepost_runtime::Error> {
        match self {
            Self::Runtime(error) => Some(error),
            Self::Context { source, .. } => source.runtime(),
            Self::Host(error) => chain(&**error).find_map(|cause| cause.downcast_ref()),
            _ => None,
        }
    }

    /// Returns the trainer's error behind this one, if there is one.
    pub fn learners(&self) -> Option<&milepost_learners::Error> {
        match self {
            Self::Learners(error) => Some(error),
            Self::Context { source, .. } => source.learners(),
            Self::Host(error) => chain(&**error).find_map(|cause| cause.downcast_ref()),
            _ => None,
        }
    }

    /// Returns whether the configuration is at fault, so that the same run would fail again.
    pub fn is_of_configuration(&self) -> bool {
        use milepost_runtime::Error as Runtime;
        let refused = matches!(self.runtime(), Some(Runtime::BadInput(_) | Runtime::Parse { .. } | Runtime::Secret { .. }));
        let own = match self {
            Self::Config { .. } => true,
            Self::Context { source, .. } => source.is_of_configuration(),
            _ => false,
        };
        refused || own || matches!(self.learners(), Some(milepost_learners::Error::Config { .. }))
    }

    /// Returns whether a person cancelled the run.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::Context { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }

    /// Returns whether an update itself is at fault, because there is nothing to learn or the training is not healthy.
    pub fn is_of_candidate(&self) -> bool {
        matches!(self.learners(), Some(milepost_learners::Error::Unhealthy(_)))
    }

    /// Returns the message with those of all causes, separated by colons.
    pub fn with_causes(&self) -> String {
        chain(self).map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// Iterates over an error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// Adds what was being done to an error.
pub trait ResultExt<T> {
    /// Adds this text.
    ///
    /// # Errors
    /// The error, with the text before it.
    fn context(self, context: impl Into<String>) -> Result<T>;

    /// Adds the text that the closure returns; the closure runs only if there is an error.
    ///
    /// # Errors
    /// The error, with the text before it.
    fn with_context<S: Into<String>>(self, context: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::Context { context: context.into(), source: Box::new(error.into()) })
    }

    fn with_context<S: Into<String>>(self, context: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Context { context: context().into(), source: Box::new(error.into()) })
    }
}

impl<T> ResultExt<T> for Option<T> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::Failed(context.into()))
    }

    fn with_context<S: Into<String>>(self, context: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Failed(context().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unhealthy_update_is_the_candidates_fault() {
        let unhealthy = || milepost_learners::Error::Unhealthy("8 of 8 groups earned the same".into());
        assert!(Error::from(unhealthy()).is_of_candidate());
        assert!(Error::Context { context: "the update".into(), source: Box::new(unhealthy().into()) }.is_of_candidate());
        assert!(!Error::from(std::io::Error::other("no space left on device")).is_of_candidate());
        assert!(!Error::Failed("the training thread ended early".into()).is_of_candidate());
    }
}
