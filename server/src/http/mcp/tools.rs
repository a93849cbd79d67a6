//! The MCP tools, which call the service and return its data.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use milepost_runtime::Task as RuntimeTask;
use milepost_service::{EventKind, Submitted};
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, ProgressNotificationParam};
use rmcp::service::RequestContext;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::arguments::{CancelTask, Observe, RunTask, TaskStatus};
use super::resources;
use crate::http::auth::Caller;
use crate::http::errors::Problem;
use crate::http::request::request_id::RequestId;
use crate::http::rest::{NewTask, Task, submit_task};
use crate::http::state::App;

/// The result of a tool, or the problem for which it was refused.
type ToolResult = Result<CallToolResult, Problem>;

/// The tools; cheap to clone.
#[derive(Clone)]
pub(super) struct Tools {
    app: App,
    /// One permit for each browser that `observe` may open at the same time: as many as there are workers.
    observe_permits: Arc<Semaphore>,
}

impl Tools {
    /// Makes the tools of a daemon.
    pub(super) fn new(app: App) -> Self {
        let observe_permits = Arc::new(Semaphore::new(app.settings.workers.max(1)));
        Self { app, observe_permits }
    }

    /// Submits a task and waits for its end, up to the requested time. A call that the client cancels also cancels the task, unless an earlier call
    /// submitted the task.
    pub(super) async fn run_task(&self, caller: &Caller, run: RunTask, context: &RequestContext<RoleServer>) -> ToolResult {
        let wait = run.wait_seconds();
        let new: NewTask = self.app.schemas.read(run.into_new_task().to_string().as_bytes())?;
        let id = context.extensions.get::<axum::http::request::Parts>().and_then(|parts| parts.extensions.get::<RequestId>().cloned());
        let id = id.unwrap_or_else(|| RequestId(context.id.to_string()));
        let Submitted { record, repeated } = submit_task(&self.app, &caller.name, &id, new).await?;
        tokio::select! {
            () = self.wait_for_end(&record.id, wait, context) => self.status(&record.id).await,
            () = context.ct.cancelled() => {
                if !repeated {
                    self.app.service.cancel(&record.id).await?;
                }
                self.status(&record.id).await
            }
        }
    }

    /// Returns a task's status, after a wait for its end up to the requested time.
    pub(super) async fn task_status(&self, status: TaskStatus, context: &RequestContext<RoleServer>) -> ToolResult {
        self.app.service.get(&status.id).await?;
        tokio::select! {
            () = self.wait_for_end(&status.id, status.wait_seconds(), context) => {}
            () = context.ct.cancelled() => {}
        }
        self.status(&status.id).await
    }

    /// Cancels a task.
    pub(super) async fn cancel_task(&self, cancel: CancelTask) -> ToolResult {
        self.app.service.cancel(&cancel.id).await?;
        self.status(&cancel.id).await
    }

    /// Opens a page in a new browser and returns its observation as the model would read it.
    pub(super) async fn observe(&self, observe: Observe) -> ToolResult {
        let task = RuntimeTask::new("look at the page", &observe.url).map_err(|error| Problem::invalid(error.to_string()))?;
        let _permit = self.observe_permits.acquire().await.map_err(|error| Problem::internal(&error))?;
        let observation =
            self.app.observer.observe(&task).await.map_err(|error| Problem::new(axum::http::StatusCode::BAD_GATEWAY, error.to_string()))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(observation.render(self.app.settings.page_lines))]))
    }

    /// Waits until the task ends or is interrupted, for `seconds` at most. A client that sent a progress token gets the events as progress.
    async fn wait_for_end(&self, id: &str, seconds: u64, context: &RequestContext<RoleServer>) {
        let token = context.meta.get_progress_token();
        let follow = async {
            let Ok(mut events) = self.app.service.events(id, 0).await else { return };
            while let Some(Ok(event)) = events.next().await {
                let done = matches!(event.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. });
                if let (Some(token), Some(message)) = (&token, progress_message(&event.kind)) {
                    let progress = ProgressNotificationParam::new(token.clone(), event.seq as f64).with_message(message);
                    if let Err(error) = context.peer.notify_progress(progress).await {
                        tracing::debug!(%error, "a progress notification was not sent");
                    }
                }
                if done {
                    return;
                }
            }
        };
        // Running out of time is no failure: the task continues, and its status says so.
        let _ = tokio::time::timeout(Duration::from_secs(seconds), follow).await;
    }

    /// Returns the task as the REST API shows it, with the URI of its episode, and with a hint if it has not ended.
    async fn status(&self, id: &str) -> ToolResult {
        let record = self.app.service.get(id).await?;
        let (done, resource) = (record.state.is_final(), record.episode.as_deref().map(resources::episode_uri));
        let mut status: Value = json!(Task::from(record));
        if let Some(resource) = resource {
            status["resource"] = resource.into();
        }
        if !done {
            status["hint"] = "it has not ended; call task_status with wait_seconds".into();
        }
        Ok(CallToolResult::structured(status))
    }
}

/// Describes an event in one line; returns `None` for an event that is no progress.
fn progress_message(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Plan { version, steps, .. } => format!("plan {version}: {} steps", steps.len()),
        EventKind::Milestone { index, text } => format!("reached {}: {text}", index + 1),
        EventKind::Step { action, error: None, .. } => action.clone(),
        EventKind::Step { action, error: Some(error), .. } => format!("{action} (failed: {error})"),
        EventKind::ApprovalRequested(request) => format!("waits for a person: {} ({})", request.action, request.reason),
        _ => return None,
    })
}
