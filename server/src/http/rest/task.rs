//! A task as the API shows it.

use chrono::{DateTime, Utc};
use milepost_service::{ApprovalRequest, TaskRecord, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = State)]
#[serde(rename_all = "snake_case")]
pub enum PublicState {
    /// The task waits for a worker.
    Queued,
    /// A runner carries the task out.
    Running,
    /// The runner waits for a person's decision.
    NeedsApproval,
    /// The run was lost after it had acted, or while it waited for a person: a person must resume or cancel the task.
    Interrupted,
    /// The agent answered.
    Done,
    /// The task ended without an answer; `stop` and `reason` say why.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

impl From<TaskState> for PublicState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Queued => Self::Queued,
            TaskState::Running => Self::Running,
            TaskState::NeedsApproval => Self::NeedsApproval,
            TaskState::Interrupted => Self::Interrupted,
            TaskState::Done => Self::Done,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<PublicState> for TaskState {
    fn from(state: PublicState) -> Self {
        match state {
            PublicState::Queued => Self::Queued,
            PublicState::Running => Self::Running,
            PublicState::NeedsApproval => Self::NeedsApproval,
            PublicState::Interrupted => Self::Interrupted,
            PublicState::Done => Self::Done,
            PublicState::Failed => Self::Failed,
            PublicState::Cancelled => Self::Cancelled,
        }
    }
}

/// An action that waits for a person's approval.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Approval {
    /// The action in one line.
    pub action: String,
    /// Why the action needs approval.
    pub reason: String,
    /// Address of the page on which the action would be carried out.
    pub url: Option<String>,
    /// Turn number of that page's screenshot.
    pub screenshot: Option<u32>,
}

impl From<ApprovalRequest> for Approval {
    fn from(request: ApprovalRequest) -> Self {
        let screenshot = request.screenshot.as_deref().and_then(super::episode::screenshot_turn);
        Self { action: request.action, reason: request.reason, url: request.url, screenshot }
    }
}

/// A person's judgement of a finished task.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Said)]
pub struct TaskFeedback {
    /// Whether the task was done as requested.
    pub success: bool,
    /// The reason for the judgement.
    pub note: Option<String>,
    /// When the feedback was given.
    pub at: DateTime<Utc>,
}

/// A task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Task {
    /// Unique id.
    #[schema(format = Uuid)]
    pub id: String,
    /// The caller who submitted the task: the name of a token.
    pub caller: String,
    /// The current state.
    pub state: PublicState,
    /// The goal in words.
    pub goal: String,
    /// The address of the first page.
    pub url: String,
    /// The planner that the caller asked for.
    pub planner: Option<String>,
    /// The caller's own condition for success.
    pub check: Option<String>,
    /// Names of the secrets that may be typed.
    pub secrets: Vec<String>,
    /// Name of the browser profile.
    pub profile: Option<String>,
    /// Priority; tasks with a higher one start first.
    pub priority: i16,
    /// Number of times the task was started.
    pub attempts: u32,
    /// Id of the last attempt's episode.
    pub episode: Option<String>,
    /// Why the task ended, in one word.
    pub stop: Option<String>,
    /// Why the task ended or was interrupted, in words.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the submission's schema describes.
    pub output: Option<Value>,
    /// Verified outcome; null if it was not verified.
    pub success: Option<bool>,
    /// The approval that the task waits for.
    pub approval: Option<Approval>,
    /// Whether this attempt may have had a side effect.
    pub acted: bool,
    /// Whether the task is to be cancelled as soon as its runner returns.
    pub cancel_requested: bool,
    /// A person's judgement after the end.
    pub feedback: Option<TaskFeedback>,
    /// Time by which the task must have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// The task is not started before this time (after a failed attempt).
    pub not_before: Option<DateTime<Utc>>,
    /// When the task was submitted.
    pub created_at: DateTime<Utc>,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When the task ended for good.
    pub ended_at: Option<DateTime<Utc>>,
    /// Number of the task's last event.
    pub last_seq: u64,
}

impl From<TaskRecord> for Task {
    fn from(task: TaskRecord) -> Self {
        let submission = task.submission;
        Self {
            id: task.id,
            caller: task.caller,
            state: task.state.into(),
            goal: submission.goal,
            url: submission.url.to_string(),
            planner: submission.planner,
            check: submission.check,
            secrets: submission.secrets,
            profile: submission.profile,
            priority: submission.priority,
            attempts: task.attempts,
            episode: task.episode,
            stop: task.stop,
            reason: task.reason,
            answer: task.answer,
            output: task.output,
            success: task.success,
            approval: task.approval.map(Approval::from),
            acted: task.acted,
            cancel_requested: task.cancel_requested,
            feedback: task.feedback.map(|feedback| TaskFeedback { success: feedback.success, note: feedback.note, at: feedback.at }),
            deadline: task.deadline,
            not_before: task.not_before,
            created_at: task.created_at,
            started_at: task.started_at,
            ended_at: task.ended_at,
            last_seq: task.last_seq,
        }
    }
}
