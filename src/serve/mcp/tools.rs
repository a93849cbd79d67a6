//! What the tools do: the service's calls, told as data.

use std::time::Duration;

use futures_util::StreamExt;
use milepost_runtime::Task as WebTask;
use milepost_service::{EventKind, Submitted};
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, ProgressNotificationParam};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use super::arguments::{CancelTask, Observe, RunTask, TaskStatus};
use super::resources;
use super::server::Server;
use crate::serve::auth::Caller;
use crate::serve::payload;
use crate::serve::problem::Problem;
use crate::serve::requests::RequestId;
use crate::serve::rest::{NewTask, Task, hand_in};
use crate::serve::runner;

/// What a tool says, or why it cannot.
pub(super) type Said = Result<CallToolResult, Problem>;

impl Server {
    /// Hands a task in and waits for its end, for as long as the caller wants and stays.
    pub(super) async fn run_task(&self, caller: &Caller, run: RunTask, context: &RequestContext<RoleServer>) -> Said {
        let wait = run.wait();
        let new: NewTask = payload::read(run.task().to_string().as_bytes())?;
        let id = context.extensions.get::<axum::http::request::Parts>().and_then(|parts| parts.extensions.get::<RequestId>().cloned());
        let id = id.unwrap_or_else(|| RequestId(context.id.to_string()));
        let Submitted { record, repeated } = hand_in(&self.app, &caller.name, &id, new).await?;
        tokio::select! {
            () = self.ended(&record.id, wait, context) => self.status(&record.id).await,
            () = context.ct.cancelled() => {
                if !repeated {
                    self.app.service.cancel(&record.id).await?;
                }
                self.status(&record.id).await
            }
        }
    }

    /// How a task stands, after a wait for its end.
    pub(super) async fn task_status(&self, status: TaskStatus, context: &RequestContext<RoleServer>) -> Said {
        self.app.service.get(&status.id).await?;
        tokio::select! {
            () = self.ended(&status.id, status.wait(), context) => {}
            () = context.ct.cancelled() => {}
        }
        self.status(&status.id).await
    }

    /// Cancels a task.
    pub(super) async fn cancel_task(&self, cancel: CancelTask) -> Said {
        self.app.service.cancel(&cancel.id).await?;
        self.status(&cancel.id).await
    }

    /// A page as the model would see it.
    pub(super) async fn observe(&self, observe: Observe) -> Said {
        let task = WebTask::new("look at the page", &observe.url).map_err(|error| Problem::invalid(error.to_string()))?;
        let _place = self.looking.acquire().await.map_err(|error| Problem::internal(&error))?;
        let observation = runner::observe(&self.app.config, &task)
            .await
            .map_err(|error| Problem::new(axum::http::StatusCode::BAD_GATEWAY, error.to_string()))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(observation.render(self.app.config.policy.page_lines))]))
    }

    /// Waits until a task ends or needs a person, telling its steps to a client that wants to hear of them.
    async fn ended(&self, id: &str, seconds: u64, context: &RequestContext<RoleServer>) {
        let token = context.meta.get_progress_token();
        let follow = async {
            let Ok(mut events) = self.app.service.events(id, 0).await else { return };
            while let Some(Ok(event)) = events.next().await {
                let done = matches!(event.kind, EventKind::Ended { .. } | EventKind::Interrupted { .. });
                if let (Some(token), Some(line)) = (&token, line(&event.kind)) {
                    let progress = ProgressNotificationParam::new(token.clone(), event.seq as f64).with_message(line);
                    if let Err(error) = context.peer.notify_progress(progress).await {
                        tracing::debug!(%error, "a client does not hear of the progress");
                    }
                }
                if done {
                    return;
                }
            }
        };
        // Later is no failure: the task goes on, and its status says so.
        let _ = tokio::time::timeout(Duration::from_secs(seconds), follow).await;
    }

    async fn status(&self, id: &str) -> Said {
        let record = self.app.service.get(id).await?;
        let (done, resource) = (record.state.is_final(), record.episode.as_deref().map(resources::address));
        let mut told: Value = json!(Task::from(record));
        if let Some(resource) = resource {
            told["resource"] = resource.into();
        }
        if !done {
            told["hint"] = "it has not ended; call task_status with wait_seconds".into();
        }
        Ok(CallToolResult::structured(told))
    }
}

fn line(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Plan { version, steps, .. } => format!("plan {version}: {} steps", steps.len()),
        EventKind::Milestone { index, text } => format!("reached {}: {text}", index + 1),
        EventKind::Step { action, error: None, .. } => action.clone(),
        EventKind::Step { action, error: Some(error), .. } => format!("{action} (failed: {error})"),
        EventKind::ApprovalRequested(request) => format!("waits for a person: {} ({})", request.action, request.reason),
        _ => return None,
    })
}
