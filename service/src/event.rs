//! What happens to a task, as it is stored and told to followers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::record::{ApprovalRequest, TaskState};

/// One event. Events of a task are numbered from 1 without a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Its place among the events of all tasks; ascending, with gaps.
    pub position: u64,
    /// The task.
    pub task: String,
    /// Its place among the task's events, from 1.
    pub seq: u64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// A plan step as followers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLine {
    /// The step in words.
    pub text: String,
    /// Its milestone in words.
    pub milestone: String,
    /// Its status (a word of the runtime's `StepStatus`).
    pub status: String,
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum EventKind {
    /// It was handed in, or queued again.
    Queued {
        /// Why it was queued again; `None` the first time.
        reason: Option<String>,
    },
    /// A runner took it.
    Started {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// The episode's id is known.
    Episode {
        /// The id.
        id: String,
    },
    /// A first or revised plan.
    Plan {
        /// The plan's version.
        version: u32,
        /// Index of the current step.
        cursor: usize,
        /// The steps.
        steps: Vec<PlanLine>,
    },
    /// A milestone became true.
    Milestone {
        /// Index of its plan step.
        index: usize,
        /// The milestone in words.
        text: String,
    },
    /// A step was carried out.
    Step {
        /// Turn number, from 0.
        turn: u32,
        /// The action in one line.
        action: String,
        /// Whether it was carried out.
        ok: bool,
        /// Why not.
        error: Option<String>,
        /// The page it was decided on.
        url: String,
        /// Screenshot file, relative to the episodes' directory.
        screenshot: Option<String>,
    },
    /// Somebody said something to the agent.
    Message {
        /// What.
        text: String,
    },
    /// A person must decide.
    ApprovalRequested(ApprovalRequest),
    /// A person approved.
    Approved {
        /// What they said.
        note: Option<String>,
    },
    /// A person denied.
    Denied {
        /// What they said.
        note: Option<String>,
    },
    /// Somebody asked to cancel it while a runner had it.
    CancelRequested {},
    /// It died after it had acted, or while it waited for a person.
    Interrupted {
        /// How.
        reason: String,
    },
    /// A person had it started anew.
    Resumed {},
    /// It ended for good; no event follows.
    Ended {
        /// The final state.
        state: TaskState,
        /// Why: a word.
        stop: Option<String>,
        /// Why: in words.
        reason: Option<String>,
        /// The answer's text.
        answer: Option<String>,
        /// Verified outcome.
        success: Option<bool>,
    },
}

impl EventKind {
    /// The kind's word, as in `kind` of its JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Started { .. } => "started",
            Self::Episode { .. } => "episode",
            Self::Plan { .. } => "plan",
            Self::Milestone { .. } => "milestone",
            Self::Step { .. } => "step",
            Self::Message { .. } => "message",
            Self::ApprovalRequested(_) => "approval_requested",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::CancelRequested {} => "cancel_requested",
            Self::Interrupted { .. } => "interrupted",
            Self::Resumed {} => "resumed",
            Self::Ended { .. } => "ended",
        }
    }

    /// What happened, in a line for people.
    pub fn in_words(&self) -> String {
        let noted = |word: &str, note: &Option<String>| match note {
            Some(note) => format!("{word}: {note}"),
            None => word.to_owned(),
        };
        match self {
            Self::Queued { reason } => noted(if reason.is_some() { "queued again" } else { "queued" }, reason),
            Self::Started { attempt } => format!("attempt {attempt} started"),
            Self::Episode { id } => format!("recorded as episode {id}"),
            Self::Plan { version, steps, .. } if *version <= 1 => format!("planned {} steps", steps.len()),
            Self::Plan { version, steps, .. } => format!("revised the plan (revision {}): {} steps", version - 1, steps.len()),
            Self::Milestone { index, text } => format!("milestone {} reached: {text}", index + 1),
            Self::Step { turn, action, error, .. } => noted(&format!("action {}: {action}", turn + 1), error),
            Self::Message { text } => format!("message to the agent: {text}"),
            Self::ApprovalRequested(request) => format!("needs approval for {}: {}", request.action, request.reason),
            Self::Approved { note } => noted("approved", note),
            Self::Denied { note } => noted("denied", note),
            Self::CancelRequested {} => "cancelling".to_owned(),
            Self::Interrupted { reason } => format!("interrupted: {reason}"),
            Self::Resumed {} => "to be started anew".to_owned(),
            Self::Ended { state, reason, stop, answer, .. } => {
                noted(state.word(), &answer.clone().or_else(|| reason.clone()).or_else(|| stop.clone()))
            }
        }
    }
}
