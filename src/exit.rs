//! The exit codes of commands.

use std::process::ExitCode;

use milepost_runtime::{Episode, Error, Stop};

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: the command succeeded.
    Done,
    /// 1: the task failed, or its check does not hold or could not be decided.
    Failed,
    /// 2: the input or configuration is bad; clap uses the same code.
    BadInput,
    /// 3: an action needs a person's approval.
    NeedsApproval,
    /// 4: the command was cancelled.
    Cancelled,
    /// 5: the environment failed: browser, model, disk, port.
    Environment,
}

impl Exit {
    /// Returns the exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadInput => 2,
            Self::NeedsApproval => 3,
            Self::Cancelled => 4,
            Self::Environment => 5,
        }
    }

    /// Returns the end of a command that failed with this error.
    pub fn of_error(error: &anyhow::Error) -> Self {
        let refused = |error: &Error| matches!(error, Error::BadInput(_) | Error::Parse { .. } | Error::Secret { .. });
        let bad_input = error.downcast_ref::<BadConfig>().is_some() || error.chain().filter_map(|cause| runtime_error(cause)).any(refused);
        if bad_input { Self::BadInput } else { Self::Environment }
    }

    /// Returns the end of a command whose episode is finished.
    pub fn of(episode: &Episode) -> Self {
        match (&episode.stop, episode.success) {
            (Some(Stop::NeedsApproval(_)), _) => Self::NeedsApproval,
            (Some(Stop::Cancelled), _) => Self::Cancelled,
            (Some(Stop::Failed(_)), _) => Self::Environment,
            (Some(Stop::Answered), None) if episode.undecided_check().is_some() => Self::Failed,
            (Some(Stop::Answered), Some(true) | None) => Self::Done,
            _ => Self::Failed,
        }
    }
}

/// Marks an error as one of the configuration or the input.
#[derive(Debug, thiserror::Error)]
#[error("bad input")]
pub struct BadConfig;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Returns the runtime's error behind the error of a crate that wraps it.
fn runtime_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    #[cfg(feature = "daemon")]
    if let Some(milepost_server::Error::Runtime(error)) = cause.downcast_ref() {
        return Some(error);
    }
    cause.downcast_ref::<milepost_improve::Error>().and_then(milepost_improve::Error::runtime).or_else(|| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use milepost_runtime::{Check, Task};

    use super::*;

    /// Returns the exit of an answered episode with this check and this verified outcome.
    fn exit(check: Option<&str>, success: Option<bool>) -> Exit {
        let mut task = Task::new("x", "http://a.org/").unwrap();
        task.check = check.map(|check| Check::parse(check).unwrap());
        Exit::of(&Episode { stop: Some(Stop::Answered), success, ..Episode::begin(task, "adaplan", "g") })
    }

    #[test]
    fn an_answer_is_a_failure_unless_its_check_holds() {
        let check = Some("checked \"x\"");
        assert_eq!([Some(true), Some(false), None].map(|success| exit(check, success)), [Exit::Done, Exit::Failed, Exit::Failed]);
        assert_eq!(exit(None, None), Exit::Done, "without a check nothing has to be verified");
    }
}
