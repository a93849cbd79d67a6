//! What becomes of a task: pure functions from a record and what happened to the record after it, and the event.

use chrono::{DateTime, TimeDelta, Utc};
use milepost_runtime::Stop;

use crate::config::ServiceConfig;
use crate::event::EventKind;
use crate::record::{Cause, TaskRecord, TaskState};
use crate::runner::{Report, RunFailure};
use crate::submission::Submission;

/// How a runner let go of a task.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It reported.
    Report(Report),
    /// It failed.
    Failure(RunFailure),
    /// It was cut off, hung or broke.
    Lost(String),
}

/// A new task.
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

/// A runner takes the task.
pub(crate) fn start(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    task.state = TaskState::Running;
    task.attempts += 1;
    task.acted = false;
    task.started_at = Some(now);
    (task.episode, task.reason, task.approval, task.not_before) = (None, None, None, None);
    EventKind::Started { attempt: task.attempts }
}

/// A runner let go of the task.
pub(crate) fn settle(task: &mut TaskRecord, ending: Ending, cause: Option<Cause>, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    let report = match ending {
        // Who was told to end because of a deadline or a drain did not end by itself.
        Ending::Report(report) if report.stop != Stop::Cancelled => report,
        Ending::Report(report) => {
            task.episode = report.episode.or(task.episode.take());
            return match cause {
                Some(Cause::Deadline) => expire(task, now),
                Some(Cause::Drain) => shut(task, config, now),
                Some(Cause::Cancelled) | None => cancel(task, now),
            };
        }
        Ending::Failure(RunFailure::Permanent(reason)) if cause.is_none() => {
            return end(task, TaskState::Failed, Some("failed"), Some(&reason), now);
        }
        Ending::Failure(failure) if cause.is_none() => return lose(task, &failure.to_string(), config, now),
        Ending::Lost(reason) if cause.is_none() => return lose(task, &reason, config, now),
        Ending::Failure(_) | Ending::Lost(_) => {
            return match cause {
                Some(Cause::Cancelled) => cancel(task, now),
                Some(Cause::Deadline) => expire(task, now),
                Some(Cause::Drain) | None => shut(task, config, now),
            };
        }
    };
    task.episode = report.episode.or(task.episode.take());
    (task.answer, task.output, task.success) = (report.answer, report.output, report.success);
    let state = if report.stop == Stop::Answered { TaskState::Done } else { TaskState::Failed };
    end(task, state, Some(report.stop.word()), report.stop.reason(), now)
}

/// The task lost its runner without a result: again where that repeats nothing, else a person decides.
pub(crate) fn lose(task: &mut TaskRecord, reason: &str, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
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

/// The service died with the task in a runner's hands: it costs an attempt, so that a task that kills the service does not do so for ever.
pub(crate) fn died(task: &mut TaskRecord, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    let kind = lose(task, "the service died", config, now);
    task.not_before = None;
    kind
}

/// The service was shut down: nobody's fault, so it costs the task no attempt and no wait.
pub(crate) fn shut(task: &mut TaskRecord, config: &ServiceConfig, now: DateTime<Utc>) -> EventKind {
    task.attempt_limit += 1;
    let kind = lose(task, "the service was shut down", config, now);
    task.not_before = None;
    kind
}

/// A person has an interrupted task started anew.
pub(crate) fn resume(task: &mut TaskRecord, config: &ServiceConfig) -> EventKind {
    task.state = TaskState::Queued;
    task.acted = false;
    task.attempt_limit = task.attempts + config.max_attempts.max(1);
    (task.reason, task.not_before) = (None, None);
    EventKind::Resumed {}
}

/// Somebody cancelled the task.
pub(crate) fn cancel(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    task.cancel_requested = true;
    end(task, TaskState::Cancelled, Some("cancelled"), None, now)
}

/// The task's deadline passed.
pub(crate) fn expire(task: &mut TaskRecord, now: DateTime<Utc>) -> EventKind {
    end(task, TaskState::Failed, Some("deadline"), Some("its deadline passed"), now)
}

fn end(task: &mut TaskRecord, state: TaskState, stop: Option<&str>, reason: Option<&str>, now: DateTime<Utc>) -> EventKind {
    task.state = state;
    task.stop = stop.map(str::to_owned);
    task.reason = reason.map(str::to_owned);
    task.ended_at = Some(now);
    (task.approval, task.not_before) = (None, None);
    EventKind::Ended { state, stop: task.stop.clone(), reason: task.reason.clone(), answer: task.answer.clone(), success: task.success }
}

fn seconds(seconds: u64) -> TimeDelta {
    TimeDelta::seconds(i64::try_from(seconds.min(u64::from(u32::MAX))).unwrap_or_default())
}
