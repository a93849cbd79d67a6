//! The events of tasks, as they are stored and sent to followers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::approval::ApprovalRequest;
use crate::state::TaskState;

/// An event of a task. The events of a task are numbered from 1 without a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The event's number among the events of all tasks; ascending, with gaps.
    pub position: u64,
    /// The task's id.
    pub task: String,
    /// The event's number among the task's events, from 1.
    pub seq: u64,
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The kind of event, with its data.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// One step of a plan, as followers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLine {
    /// The step in words.
    pub text: String,
    /// The step's milestone in words.
    pub milestone: String,
    /// The step's status (a word of the runtime's `StepStatus`).
    pub status: String,
}

/// The kind of an event, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum EventKind {
    /// The task was submitted, or queued again.
    Queued {
        /// Why the task was queued again; `None` the first time.
        reason: Option<String>,
    },
    /// A runner started the task.
    Started {
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// The run records its steps in this episode.
    Episode {
        /// The episode's id.
        id: String,
    },
    /// The run has a first or a revised plan.
    Plan {
        /// The plan's version.
        version: u32,
        /// Index of the current step.
        cursor: usize,
        /// The steps.
        steps: Vec<PlanLine>,
    },
    /// A milestone was reached.
    Milestone {
        /// Index of the milestone's plan step.
        index: usize,
        /// The milestone in words.
        text: String,
    },
    /// The run took a step.
    Step {
        /// Turn number, from 0.
        turn: u32,
        /// The action in one line.
        action: String,
        /// Whether the action succeeded.
        ok: bool,
        /// Why the action failed.
        error: Option<String>,
        /// Address of the page on which the action was decided.
        url: String,
        /// Screenshot file, relative to the episodes' directory.
        screenshot: Option<String>,
    },
    /// A person sent the agent a message.
    Message {
        /// The message.
        text: String,
    },
    /// The run waits for a person's approval.
    ApprovalRequested(ApprovalRequest),
    /// A person approved the action.
    Approved {
        /// The person's note.
        note: Option<String>,
    },
    /// A person denied the action.
    Denied {
        /// The person's note.
        note: Option<String>,
    },
    /// The task is to be cancelled as soon as its runner returns.
    CancelRequested {},
    /// The run was lost after it had acted, or while it waited for a person.
    Interrupted {
        /// How the run was lost.
        reason: String,
    },
    /// A person had the interrupted task queued again.
    Resumed {},
    /// The task ended for good; no event follows.
    Ended {
        /// The final state.
        state: TaskState,
        /// Why the task ended, in one word.
        stop: Option<String>,
        /// Why the task ended, in a sentence.
        reason: Option<String>,
        /// The answer's text.
        answer: Option<String>,
        /// Verified outcome.
        success: Option<bool>,
    },
}

impl EventKind {
    /// Returns the name of the kind, as in the field `kind` of the event's JSON.
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

    /// Describes the event in one line for people.
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
