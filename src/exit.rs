//! Exit codes, one per way a command can end.

use std::process::ExitCode;

use milepost_runtime::{Episode, Stop};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: the task failed, or was not verified as done.
    Failed,
    /// 2: bad input or configuration (clap's own code).
    BadInput,
    /// 3: an action needs a person's approval.
    NeedsApproval,
    /// 4: cancelled.
    Cancelled,
    /// 5: the environment failed: browser, model, disk, port.
    Environment,
}

impl Exit {
    /// The process's exit code.
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

    /// The code of a finished episode.
    pub fn of(episode: &Episode) -> Self {
        match (&episode.stop, episode.success) {
            (Some(Stop::NeedsApproval(_)), _) => Self::NeedsApproval,
            (Some(Stop::Cancelled), _) => Self::Cancelled,
            (Some(Stop::Failed(_)), _) => Self::Environment,
            (Some(Stop::Answered), Some(true) | None) => Self::Done,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
