//! What a run tells the service, and what it asks of a person.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use milepost_runtime::overseer::{Overseer, Refusal, Ruling};
use milepost_runtime::{Action, Capability, Error, Event, Listener, Plan, Result, StepStatus};
use milepost_service::{ApprovalRequest, Decision, Desk, EventKind, PlanLine};
use milepost_tools::egress::{EgressProxy, EgressRules};
use url::Url;

/// Turns the loop's events into the service's.
pub(super) struct Watcher {
    desk: Desk,
}

impl Watcher {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk }
    }

    fn plan(&self, plan: &Plan) {
        let line = |step: &milepost_runtime::PlanStep| PlanLine {
            text: step.text.clone(),
            milestone: step.milestone.check.as_ref().map_or_else(|| step.milestone.text.clone(), ToString::to_string),
            status: status(step.status).to_owned(),
        };
        self.desk.emit(EventKind::Plan { version: plan.version, cursor: plan.cursor, steps: plan.steps.iter().map(line).collect() });
    }
}

fn status(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Pending => "pending",
        StepStatus::Done => "done",
        StepStatus::Failed => "failed",
    }
}

impl Listener for Watcher {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Began(episode) => {
                let (desk, id) = (self.desk.clone(), episode.id.clone());
                tokio::spawn(async move {
                    if let Err(error) = desk.episode(&id).await {
                        tracing::debug!(%error, "the episode's id was not noted");
                    }
                });
            }
            Event::Plan(plan) => self.plan(plan),
            Event::Milestone(plan, index) => {
                if let Some(step) = plan.steps.get(index) {
                    self.desk.emit(EventKind::Milestone { index, text: step.text.clone() });
                }
            }
            Event::Observed(_) | Event::Ended(_) => self.desk.beat(),
            Event::Step(step) => {
                metrics::histogram!("milepost_step_seconds", "part" => "model").record(step.timing.decide_ms / 1e3);
                let page = step.timing.observe_ms + step.timing.verify_ms + step.timing.act_ms;
                metrics::histogram!("milepost_step_seconds", "part" => "page").record(page / 1e3);
                tracing::debug!(turn = step.turn, action = %step.action, ok = step.outcome.ok, "stepped");
                self.desk.emit(EventKind::Step {
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

/// The people behind the service's desk.
pub(super) struct Person {
    desk: Desk,
    capability: Mutex<Capability>,
    egress: Option<Arc<EgressProxy>>,
}

impl Person {
    pub(super) fn new(desk: Desk, capability: Capability, egress: Option<Arc<EgressProxy>>) -> Self {
        Self { desk, capability: Mutex::new(capability), egress }
    }

    /// Opens the network to the host that a person approved, as the loop opens the capability.
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

fn lost(error: milepost_service::Error) -> Error {
    Error::Environment(format!("the service does not hear this run: {error}"))
}

#[async_trait]
impl Overseer for Person {
    async fn rule(&self, refusal: Refusal<'_>) -> Result<Ruling> {
        let request = ApprovalRequest {
            action: refusal.action.to_string(),
            reason: refusal.reason.to_owned(),
            url: Some(refusal.url.to_owned()),
            screenshot: refusal.screenshot.map(str::to_owned),
        };
        metrics::counter!("milepost_approvals_asked_total").increment(1);
        match self.desk.ask(request).await.map_err(lost)? {
            Decision::Approved(_) => self.widen(refusal.action, refusal.url).map(|()| Ruling::Approved),
            Decision::Denied(note) => Ok(Ruling::Denied(note)),
            Decision::Ended(_) => {
                // The loop hears of it by its own signal, and drops this.
                let _ = self.desk.cancel().wait_for(|cancelled| *cancelled).await;
                Ok(Ruling::Undecided)
            }
        }
    }

    async fn acting(&self, _: &Action) -> Result<()> {
        self.desk.acted().await.map_err(lost)
    }

    fn messages(&self) -> Vec<String> {
        self.desk.messages()
    }
}
