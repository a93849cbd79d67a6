//! A task as it is shown over HTTP.

use chrono::{DateTime, Utc};
use milepost_service::{ApprovalRequest, TaskRecord, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// A runner is at it.
    Running,
    /// A runner waits for a person's decision.
    NeedsApproval,
    /// It died after it had acted: a person resumes or cancels it.
    Interrupted,
    /// The agent answered.
    Done,
    /// It ended otherwise.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl From<TaskState> for State {
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

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::NeedsApproval => Self::NeedsApproval,
            State::Interrupted => Self::Interrupted,
            State::Done => Self::Done,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// What a person must decide.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Approval {
    /// The action in one line.
    pub action: String,
    /// Why it was not simply carried out.
    pub reason: String,
    /// The page it would be carried out on.
    pub url: Option<String>,
    /// Number of that page's screenshot.
    pub screenshot: Option<u32>,
}

impl From<ApprovalRequest> for Approval {
    fn from(request: ApprovalRequest) -> Self {
        let screenshot = request.screenshot.as_deref().and_then(super::episode::number);
        Self { action: request.action, reason: request.reason, url: request.url, screenshot }
    }
}

/// What a person said about a finished task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Said {
    /// Whether it was done as asked.
    pub success: bool,
    /// Why.
    pub note: Option<String>,
    /// When it was said.
    pub at: DateTime<Utc>,
}

/// A task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Task {
    /// Unique id.
    #[schema(format = Uuid)]
    pub id: String,
    /// Who handed it in: the name of a token.
    pub caller: String,
    /// Where it stands.
    pub state: State,
    /// The goal in words.
    pub goal: String,
    /// Where it begins.
    pub url: String,
    /// How it is planned, where that was said.
    pub planner: Option<String>,
    /// The caller's own definition of done.
    pub check: Option<String>,
    /// Names of the secrets that may be typed.
    pub secrets: Vec<String>,
    /// The named browser profile.
    pub profile: Option<String>,
    /// Higher goes first.
    pub priority: i16,
    /// How often it was started.
    pub attempts: u32,
    /// Id of the last attempt's episode.
    pub episode: Option<String>,
    /// Why it ended, in a word.
    pub stop: Option<String>,
    /// Why it ended or was interrupted.
    pub reason: Option<String>,
    /// The answer's text.
    pub answer: Option<String>,
    /// The output that the schema asked for.
    pub output: Option<Value>,
    /// Verified outcome; null where nobody verified it.
    pub success: Option<bool>,
    /// What a person must decide.
    pub approval: Option<Approval>,
    /// Whether this attempt may have changed something.
    pub acted: bool,
    /// Whether it is to be cancelled as soon as its runner lets go.
    pub cancel_requested: bool,
    /// What a person said afterwards.
    pub feedback: Option<Said>,
    /// When it must have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// It is not started before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// When it was handed in.
    pub created_at: DateTime<Utc>,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended for good.
    pub ended_at: Option<DateTime<Utc>>,
    /// Number of its last event.
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
            feedback: task.feedback.map(|said| Said { success: said.success, note: said.note, at: said.at }),
            deadline: task.deadline,
            not_before: task.not_before,
            created_at: task.created_at,
            started_at: task.started_at,
            ended_at: task.ended_at,
            last_seq: task.last_seq,
        }
    }
}
