//! A task's progress, computed from its events: the plan with the milestones that are done, the steps, and a log in words.

use chrono::{DateTime, Utc};
use milepost_service::{EventKind, PlanLine, TaskEvent};
use serde::Serialize;

use crate::http::rest::screenshot_turn;

/// A line of the log, which describes one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LogLine {
    /// Number of the event.
    pub(super) seq: u64,
    /// When the event happened.
    pub(super) at: DateTime<Utc>,
    /// The event's kind.
    pub(super) kind: &'static str,
    /// The event in words.
    pub(super) text: String,
}

/// A step that the run took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TakenStep {
    /// Turn number, from 0.
    pub(super) turn: u32,
    /// The action in one line.
    pub(super) action: String,
    /// Whether the action succeeded.
    pub(super) ok: bool,
    /// Why the action failed.
    pub(super) error: Option<String>,
    /// Address of the page on which the action was decided.
    pub(super) url: String,
}

/// The progress of a task. The plan, the steps and the screenshot are those of the last attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct TaskProgress {
    /// The plan's version.
    pub(super) version: u32,
    /// Index of the current step of the plan.
    pub(super) cursor: usize,
    /// The steps of the plan.
    pub(super) plan: Vec<PlanLine>,
    /// The steps that the run took.
    pub(super) steps: Vec<TakenStep>,
    /// The log of all attempts.
    pub(super) log: Vec<LogLine>,
    /// Turn number of the latest screenshot.
    pub(super) screenshot: Option<u32>,
    /// Number of the last event.
    pub(super) seq: u64,
}

impl TaskProgress {
    /// Computes the progress from the task's events, oldest first.
    pub(super) fn from_events<'a>(events: impl IntoIterator<Item = &'a TaskEvent>) -> Self {
        events.into_iter().fold(Self::default(), Self::apply)
    }

    /// Returns the progress after one more event.
    fn apply(mut self, event: &TaskEvent) -> Self {
        self.seq = event.seq;
        self.log.push(LogLine { seq: event.seq, at: event.at, kind: event.kind.word(), text: event.kind.in_words() });
        match &event.kind {
            EventKind::Started { .. } => {
                self = Self { log: self.log, seq: self.seq, ..Self::default() };
            }
            EventKind::Plan { version, cursor, steps } => {
                (self.version, self.cursor, self.plan) = (*version, *cursor, steps.clone());
            }
            EventKind::Milestone { index, .. } => {
                if let Some(step) = self.plan.get_mut(*index) {
                    step.status = "done".to_owned();
                }
                self.cursor = self.cursor.max(index + 1);
            }
            EventKind::Step { turn, action, ok, error, url, screenshot } => {
                let step = TakenStep { turn: *turn, action: action.clone(), ok: *ok, error: error.clone(), url: url.clone() };
                self.steps.push(step);
                self.screenshot = screenshot.as_deref().and_then(screenshot_turn).or(self.screenshot);
            }
            EventKind::ApprovalRequested(request) => {
                self.screenshot = request.screenshot.as_deref().and_then(screenshot_turn).or(self.screenshot);
            }
            _ => {}
        }
        self
    }

    /// Returns the number of milestones that are done.
    pub(super) fn milestones_done(&self) -> usize {
        self.plan.iter().filter(|step| step.status == "done").count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, kind: serde_json::Value) -> TaskEvent {
        let mut event = json!({ "position": seq, "task": "t", "seq": seq, "at": "2026-01-02T03:04:05Z" });
        event.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn plan(version: u32, cursor: usize, statuses: &[&str]) -> serde_json::Value {
        let steps: Vec<_> = statuses.iter().map(|status| json!({ "text": "s", "milestone": "m", "status": status })).collect();
        json!({ "kind": "plan", "data": { "version": version, "cursor": cursor, "steps": steps } })
    }

    fn step(turn: u32, screenshot: Option<&str>) -> serde_json::Value {
        json!({ "kind": "step", "data": { "turn": turn, "action": "click 1", "ok": true, "error": null, "url": "u", "screenshot": screenshot } })
    }

    #[test]
    fn milestones_are_marked_done_and_a_new_attempt_starts_empty() {
        let milestone = |index: usize| json!({ "kind": "milestone", "data": { "index": index, "text": "m" } });
        let mut events = vec![
            event(1, json!({ "kind": "started", "data": { "attempt": 1 } })),
            event(2, plan(1, 0, &["pending", "pending"])),
            event(3, step(0, Some("screenshots/e/000.png"))),
            event(4, milestone(0)),
        ];
        let progress = TaskProgress::from_events(&events);
        assert_eq!(
            (progress.milestones_done(), progress.cursor, progress.steps.len(), progress.screenshot, progress.seq),
            (1, 1, 1, Some(0), 4)
        );
        events.push(event(5, plan(2, 1, &["done", "failed", "pending"])));
        events.push(event(6, step(1, None)));
        let progress = TaskProgress::from_events(&events);
        assert_eq!(
            (progress.milestones_done(), progress.version, progress.screenshot),
            (1, 2, Some(0)),
            "a step without a screenshot keeps the latest one"
        );
        events.push(event(7, json!({ "kind": "started", "data": { "attempt": 2 } })));
        let progress = TaskProgress::from_events(&events);
        assert_eq!((progress.plan.len(), progress.steps.len(), progress.log.len(), progress.screenshot), (0, 0, 7, None));
    }
}
