//! A task as its events tell it: the plan with what is done, the steps, and a log in words.

use chrono::{DateTime, Utc};
use milepost_service::{EventKind, PlanLine, TaskEvent};
use serde::Serialize;

use crate::serve::rest::screenshot_number;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) at: DateTime<Utc>,
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// A step that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    pub(super) turn: u32,
    pub(super) action: String,
    pub(super) ok: bool,
    pub(super) error: Option<String>,
    pub(super) url: String,
}

/// What a task's events amount to; the plan and the steps are those of the last attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct View {
    pub(super) version: u32,
    pub(super) cursor: usize,
    pub(super) plan: Vec<PlanLine>,
    pub(super) steps: Vec<Done>,
    pub(super) log: Vec<Line>,
    /// Number of the latest screenshot.
    pub(super) screenshot: Option<u32>,
    /// Number of the last event.
    pub(super) seq: u64,
}

impl View {
    /// The view of a task's events, oldest first.
    pub(super) fn of<'a>(events: impl IntoIterator<Item = &'a TaskEvent>) -> Self {
        events.into_iter().fold(Self::default(), Self::after)
    }

    fn after(mut self, event: &TaskEvent) -> Self {
        self.seq = event.seq;
        self.log.push(Line { seq: event.seq, at: event.at, kind: event.kind.word(), text: event.kind.in_words() });
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
                let done = Done { turn: *turn, action: action.clone(), ok: *ok, error: error.clone(), url: url.clone() };
                self.steps.push(done);
                self.screenshot = screenshot.as_deref().and_then(screenshot_number).or(self.screenshot);
            }
            EventKind::ApprovalRequested(request) => {
                self.screenshot = request.screenshot.as_deref().and_then(screenshot_number).or(self.screenshot);
            }
            _ => {}
        }
        self
    }

    /// How many milestones are done.
    pub(super) fn done(&self) -> usize {
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
    fn milestones_tick_and_a_new_attempt_begins_anew() {
        let milestone = |index: usize| json!({ "kind": "milestone", "data": { "index": index, "text": "m" } });
        let mut events = vec![
            event(1, json!({ "kind": "started", "data": { "attempt": 1 } })),
            event(2, plan(1, 0, &["pending", "pending"])),
            event(3, step(0, Some("screenshots/e/000.png"))),
            event(4, milestone(0)),
        ];
        let view = View::of(&events);
        assert_eq!((view.done(), view.cursor, view.steps.len(), view.screenshot, view.seq), (1, 1, 1, Some(0), 4));
        events.push(event(5, plan(2, 1, &["done", "failed", "pending"])));
        events.push(event(6, step(1, None)));
        let view = View::of(&events);
        assert_eq!((view.done(), view.version, view.screenshot), (1, 2, Some(0)), "the latest there is");
        events.push(event(7, json!({ "kind": "started", "data": { "attempt": 2 } })));
        let view = View::of(&events);
        assert_eq!((view.plan.len(), view.steps.len(), view.log.len(), view.screenshot), (0, 0, 7, None));
    }
}
