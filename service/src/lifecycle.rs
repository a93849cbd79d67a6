//! The state transitions of a task, as pure functions: each changes the record and returns the event to store with it.

use chrono::{DateTime, TimeDelta, Utc};
use milepost_runtime::Stop;

use crate::config::ServiceConfig;
use crate::event::EventKind;
use crate::record::TaskRecord;
use crate::report::{Report, RunFailure};
use crate::state::{CancelCause, TaskState};
use crate::submission::Submission;

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) enum RunEnd {
    /// The runner returned a report.
    Report(Report),
    /// The runner returned an error.
    Failure(RunFailure),
    /// The run was aborted or the runner panicked, for this reason.
    Lost(String),
}

/// Makes the record of a new task.
pub(crate) fn admit(caller: &str, submission: Submission, config: &ServiceConfig, now: DateTime<Utc>) -> TaskRecord {
    let usual = (config.deadline_seconds > 0).then(|| now + seconds(config.deadline_seconds));
    TaskRecord {
        id: uuid::Uuid::now_v7().to_string(),
        caller: caller.to_owned(),
        state: TaskState::Queued,
        attempts: 0,
        attempt_limit: config.max_attempts.max(1),
        episode: None,
        stop: None,
        reason: None,
        answer: None,
        output: None,
        success: None,
        approval: None,
        acted: false,
        cancel_requested: false,
        feedback: None,
        deadline: submission.deadline.or(usual),
        not_before: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        last_seq: 0,
        submission,
    }
}

/// Starts an attempt.
pub(crate) fn start(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    task.state = TaskState::Running;
    task.attempts += 1;
    task.acted = false;
    task.started_at = Some(now);
    (task.episode, task.reason, task.approval, task.not_before) = (None, None, None, None);
    EventKind::Started { attempt: task.attempts }
}

/// Ends an attempt: the task ends, is queued again or is interrupted. `cause` is the cause for which the run was cancelled.
pub(crate) fn finish(
    task: &mut TaskRecord,
    run_end: RunEnd,
    cause: Option<CancelCause>,
    config: &ServiceConfig,
    now: DateTime<Utc>,
) -> EventKind {
    let report = match run_end {
        // Any stop but `Cancelled` is a result, even if the run was asked to end meanwhile.
        RunEnd::Report(report) if report.stop != Stop::Cancelled => report,
        RunEnd::Report(report) => {
            task.episode = report.episode.or(task.episode.take());
            return match cause {
                Some(CancelCause::Deadline) => expire(task, now),
                Some(CancelCause::Drain) => shut_down(task, config, now),
                Some(CancelCause::Cancelled) | None => cancel(task, now),
            };
        }
        RunEnd::Failure(RunFailure::Permanent(reason)) if cause.is_none() => {
            return end(task, TaskState::Failed, Some("failed"), Some(&reason), now);
        }
        RunEnd::Failure(failure) if cause.is_none() => return lose_runner(task, &failure.to_string(), config, now),
        RunEnd::Lost(reason) if cause.is_none() => return lose_runner(task, &reason, config, now),
        RunEnd::Failure(_) | RunEnd::Lost(_) => {
            return match cause {
                Some(CancelCause::Cancelled) => cancel(task, now),
                Some(CancelCause::Deadline) => expire(task, now),
                Some(CancelCause::Drain) | None => shut_down(task, config, now),
            };
        }
    };
    task.episode = report.episode.or(task.episode.take());
    (task.answer, task.output, task.success) = (report.answer, report.output, report.success);
    let state = if report.stop == Stop::Answered { TaskState::Done } else { TaskState::Failed };
    end(task, state, Some(report.stop.word()), report.stop.reason(), now)
}

/// Ends an attempt without a result: the task is queued again if that repeats no side effect and attempts are left, else a person must
/// decide or it fails. A task that is to be cancelled or whose deadline has passed ends.
pub(crate) fn lose_runner(task: &mut TaskRecord, reason: &str, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    if task.cancel_requested {
        return cancel(task, now);
    }
    if task.deadline.is_some_and(|deadline| deadline <= now) {
        return expire(task, now);
    }
    let waited = task.state == TaskState::NeedsApproval;
    task.approval = None;
    if waited || (task.acted && !task.submission.idempotent) {
        let why = if waited { "it waited for a person" } else { "it had acted" };
        let reason = format!("{reason} when {why}; resume it to start it anew, which may repeat what it did, or cancel it");
        task.state = TaskState::Interrupted;
        task.reason = Some(reason.clone());
        return EventKind::Interrupted { reason };
    }
    if task.attempts >= task.attempt_limit {
        let reason = format!("given up after {} attempts; the last one: {reason}", task.attempts);
        return end(task, TaskState::Failed, Some("lost"), Some(&reason), now);
    }
    task.state = TaskState::Queued;
    task.not_before = Some(now + seconds(config.retry_after_seconds.saturating_mul(u64::from(task.attempts))));
    EventKind::Queued { reason: Some(reason.to_owned()) }
}

/// Ends an attempt that was running when the service crashed. It counts as an attempt, so that a task that crashes the service does not do
/// so for ever.
pub(crate) fn recover_from_crash(task: &mut TaskRecord, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    let kind = lose_runner(task, "the service died", config, now);
    task.not_before = None;
    kind
}

/// Ends an attempt because the service shuts down. It does not count as an attempt, and the task need not wait before the next.
pub(crate) fn shut_down(task: &mut TaskRecord, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    task.attempt_limit += 1;
    let kind = lose_runner(task, "the service was shut down", config, now);
    task.not_before = None;
    kind
}

/// Queues an interrupted task again, as a person requested.
pub(crate) fn resume(task: &mut TaskRecord, config: &ServiceConfig) -> EventKind {
    task.state = TaskState::Queued;
    task.acted = false;
    task.attempt_limit = task.attempts + config.max_attempts.max(1);
    (task.reason, task.not_before) = (None, None);
    EventKind::Resumed {}
}

/// Ends the task as cancelled.
pub(crate) fn cancel(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    task.cancel_requested = true;
    end(task, TaskState::Cancelled, Some("cancelled"), None, now)
}

/// Ends the task because its deadline passed.
pub(crate) fn expire(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    end(task, TaskState::Failed, Some("deadline"), Some("its deadline passed"), now)
}

/// Ends the task for good.
fn end(task: &mut TaskRecord, state: TaskState, stop: Option<&str>, reason: Option<&str>, now: DateTime<Utc>) -> EventKind {
    task.state = state;
    task.stop = stop.map(str::to_owned);
    task.reason = reason.map(str::to_owned);
    task.ended_at = Some(now);
    (task.approval, task.not_before) = (None, None);
    EventKind::Ended { state, stop: task.stop.clone(), reason: task.reason.clone(), answer: task.answer.clone(), success: task.success }
}

/// Converts a duration in seconds, cut off at 136 years.
fn seconds(seconds: u64) -> TimeDelta {
    TimeDelta::seconds(i64::try_from(seconds.min(u64::from(u32::MAX))).unwrap_or_default())
}
