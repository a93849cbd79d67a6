//! Connects a run with the service: it forwards the agent's events, and lets a person decide about refused actions.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use milepost_runtime::overseer::{ApprovalDecision, Overseer, RefusedAction};
use milepost_runtime::{Action, Capability, Error, Event, Listener, Plan, Result, StepStatus};
use milepost_service::{ApprovalRequest, Decision, EventKind, PlanLine, TaskHandle};
use milepost_tools::egress::{EgressProxy, EgressRules};
use url::Url;

/// Forwards the agent's events to the service.
pub(super) struct ServiceListener {
    handle: TaskHandle,
}

impl ServiceListener {
    pub(super) fn new(handle: TaskHandle) -> Self {
        Self { handle }
    }

    fn plan(&self, plan: &Plan) {
        let line = |step: &milepost_runtime::PlanStep| PlanLine {
            text: step.text.clone(),
            milestone: step.milestone.check.as_ref().map_or_else(|| step.milestone.text.clone(), ToString::to_string),
            status: status(step.status).to_owned(),
        };
        self.handle.emit(EventKind::Plan { version: plan.version, cursor: plan.cursor, steps: plan.steps.iter().map(line).collect() });
    }
}

/// Returns the name of a step's status in the service's events.
fn status(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Pending => "pending",
        StepStatus::Done => "done",
        StepStatus::Failed => "failed",
    }
}

impl Listener for ServiceListener {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Began(episode) => {
                let (handle, id) = (self.handle.clone(), episode.id.clone());
                tokio::spawn(async move {
                    if let Err(error) = handle.set_episode(&id).await {
                        tracing::debug!(%error, "the episode's id was not noted");
                    }
                });
            }
            Event::Plan(plan) => self.plan(plan),
            Event::Milestone(plan, index) => {
                if let Some(step) = plan.steps.get(index) {
                    self.handle.emit(EventKind::Milestone { index, text: step.text.clone() });
                }
            }
            Event::Observed(_) | Event::Ended(_) => self.handle.heartbeat(),
            Event::Step(step) => {
                metrics::histogram!("milepost_step_seconds", "part" => "model").record(step.timing.decide_ms / 1e3);
                let page = step.timing.observe_ms + step.timing.verify_ms + step.timing.act_ms;
                metrics::histogram!("milepost_step_seconds", "part" => "page").record(page / 1e3);
                tracing::debug!(turn = step.turn, action = %step.action, ok = step.outcome.ok, "stepped");
                self.handle.emit(EventKind::Step {
                    turn: step.turn,
                    action: step.action.to_string(),
                    ok: step.outcome.ok,
                    error: step.outcome.error.clone(),
                    url: step.observation.url.clone(),
                    screenshot: step.screenshot.clone(),
                });
            }
        }
    }
}

/// The person who decides about refused actions through the service.
pub(super) struct Person {
    handle: TaskHandle,
    capability: Mutex<Capability>,
    egress: Option<Arc<EgressProxy>>,
}

impl Person {
    pub(super) fn new(handle: TaskHandle, capability: Capability, egress: Option<Arc<EgressProxy>>) -> Self {
        Self { handle, capability: Mutex::new(capability), egress }
    }

    /// Allows the host of an approved action in the egress proxy, as the agent allows it in the capability.
    fn widen(&self, action: &Action, at: &str) -> Result<()> {
        let mut capability = self.capability.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = Url::parse(at) {
            capability.widen(action, &at);
        }
        if let Some(egress) = &self.egress {
            egress.set_rules(EgressRules::parse(&capability.hosts)?);
        }
        Ok(())
    }
}

/// Makes the error of a run for whose task the service no longer accepts calls.
fn lost(error: milepost_service::Error) -> Error {
    Error::Environment(format!("the service no longer accepts calls of this run: {error}"))
}

#[async_trait]
impl Overseer for Person {
    async fn decide(&self, refused: RefusedAction<'_>) -> Result<ApprovalDecision> {
        let request = ApprovalRequest {
            action: refused.action.to_string(),
            reason: refused.reason.to_owned(),
            url: Some(refused.url.to_owned()),
            screenshot: refused.screenshot.map(str::to_owned),
        };
        metrics::counter!("milepost_approvals_asked_total").increment(1);
        match self.handle.request_approval(request).await.map_err(lost)? {
            Decision::Approved(_) => self.widen(refused.action, refused.url).map(|()| ApprovalDecision::Approved),
            Decision::Denied(note) => Ok(ApprovalDecision::Denied(note)),
            Decision::Ended(_) => {
                // The agent watches the same token and drops this future.
                self.handle.cancellation_token().cancelled().await;
                Ok(ApprovalDecision::Undecided)
            }
        }
    }

    async fn before_side_effect(&self, _: &Action) -> Result<()> {
        self.handle.mark_acted().await.map_err(lost)
    }

    fn take_messages(&self) -> Vec<String> {
        self.handle.take_messages()
    }
}
