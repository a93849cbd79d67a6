//! The live view of a run: it prints plan, milestones, actions and times as they happen.

use std::io::Write;

use milepost_runtime::{Episode, Event, Listener, Plan, PlanStep, StepStatus};

/// Prints a run to a terminal.
pub struct LiveView<W: Write + Send> {
    out: W,
    colour: bool,
    /// The number of actions printed so far.
    actions: usize,
}

/// A line of the plan.
pub(crate) struct Row {
    /// The step's status.
    pub(crate) status: StepStatus,
    /// The step in words.
    pub(crate) text: String,
    /// The check that decides whether the step is done.
    pub(crate) check: Option<String>,
}

impl<W: Write + Send> LiveView<W> {
    /// Creates a view that writes to `out`, with ANSI colours if `colour` is true.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, actions: 0 }
    }

    /// Prints a line in this ANSI colour.
    pub(crate) fn line(&mut self, code: &str, text: &str) {
        // A closed pipe must not end the run: the episode is being recorded.
        let _ = match self.colour {
            true => writeln!(self.out, "\x1b[{code}m{text}\x1b[0m"),
            false => writeln!(self.out, "{text}"),
        };
    }

    fn plan(&mut self, plan: &Plan) {
        let row = |step: &PlanStep| Row {
            status: step.status,
            text: step.text.clone(),
            check: step.milestone.check.as_ref().map(ToString::to_string),
        };
        self.rows(plan.version, plan.cursor, plan.steps.iter().map(row));
    }

    /// Prints a plan. The first plan is printed as a whole, a revised one from the step before its cursor on.
    pub(crate) fn rows(&mut self, version: u32, cursor: usize, rows: impl ExactSizeIterator<Item = Row>) {
        let title = if version == 1 { "plan".to_owned() } else { format!("plan, revision {}", version - 1) };
        self.line("1", &format!("{title}: {} steps", rows.len()));
        for (index, row) in rows.enumerate().skip(if version == 1 { 0 } else { cursor.saturating_sub(1) }) {
            let mark = match row.status {
                StepStatus::Done => "✓",
                StepStatus::Failed => "✗",
                StepStatus::Pending if index == cursor => "▶",
                StepStatus::Pending => " ",
            };
            let check = row.check.map(|check| format!("   [{check}]")).unwrap_or_default();
            self.line("2", &format!("  {mark} {:>2} {}{check}", index + 1, row.text));
        }
    }

    /// Prints a milestone that was reached.
    pub(crate) fn milestone(&mut self, index: usize, text: &str) {
        self.line("32", &format!("  ✓ milestone {:>2} {text}", index + 1));
    }

    /// Prints an action and, if it failed, its error.
    pub(crate) fn action(&mut self, line: &str, error: Option<&str>) {
        self.actions += 1;
        let line = format!("{:>3} {line}", self.actions);
        match error {
            None => self.line("0", &line),
            Some(error) => self.line("31", &format!("{line}  ✗ {error}")),
        }
    }

    /// Prints the answer.
    pub(crate) fn answer(&mut self, answer: &str) {
        self.line("1;32", &format!("answer: {answer}"));
    }

    fn ended(&mut self, episode: &Episode) {
        let stop = episode.stop.as_ref();
        let (word, reason) =
            (stop.map_or("died", |stop| stop.word()), stop.and_then(|stop| stop.reason()).map(|reason| format!(": {reason}")));
        let (done, all) = episode
            .plan()
            .map_or((0, 0), |plan| (plan.steps.iter().filter(|step| step.status == StepStatus::Done).count(), plan.steps.len()));
        let seconds = episode.ended_at.map_or(0.0, |end| (end - episode.started_at).as_seconds_f64());
        self.line(
            "1",
            &format!(
                "{word}{} after {} actions in {seconds:.1} s, {done} of {all} milestones",
                reason.unwrap_or_default(),
                episode.steps.len()
            ),
        );
        if let Some(answer) = &episode.answer {
            self.answer(answer);
        }
    }
}

impl<W: Write + Send> Listener for LiveView<W> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Plan(plan) => self.plan(plan),
            Event::Milestone(plan, index) => {
                if let Some(step) = plan.steps.get(index) {
                    self.milestone(index, &step.text);
                }
            }
            Event::Began(_) | Event::Observed(_) => {}
            Event::Step(step) => {
                let target = step.action.target().and_then(|id| step.observation.element(id));
                let target = target.map(|element| format!("  ({} {:?})", element.role, element.name)).unwrap_or_default();
                let times = step.timing;
                let rest = times.observe_ms + times.verify_ms + times.act_ms;
                let line = format!("{}{target}  [model {:.0} ms, page {rest:.0} ms]", step.action, times.decide_ms);
                self.action(&line, step.outcome.error.as_deref());
            }
            Event::Ended(episode) => self.ended(episode),
        }
    }
}
