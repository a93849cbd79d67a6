//! The live view of a run: plan, milestones, actions and timing as they come.

use std::io::Write;

use milepost_runtime::{Episode, Event, Listener, Plan, StepStatus};

/// Prints a run to a terminal.
pub struct LiveView<W: Write + Send> {
    out: W,
    colour: bool,
    shown: usize,
}

impl<W: Write + Send> LiveView<W> {
    /// A view that writes to `out`, with ANSI colours if asked.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, shown: 0 }
    }

    fn line(&mut self, code: &str, text: &str) {
        // A closed pipe must not end the run: the episode is being recorded.
        let _ = match self.colour {
            true => writeln!(self.out, "\x1b[{code}m{text}\x1b[0m"),
            false => writeln!(self.out, "{text}"),
        };
    }

    fn plan(&mut self, plan: &Plan) {
        let title = if plan.version == 1 { "plan".to_owned() } else { format!("plan, revision {}", plan.version - 1) };
        self.line("1", &format!("{title}: {} steps", plan.steps.len()));
        for (index, step) in plan.steps.iter().enumerate().skip(if plan.version == 1 { 0 } else { plan.cursor.saturating_sub(1) }) {
            let mark = match step.status {
                StepStatus::Done => "✓",
                StepStatus::Failed => "✗",
                StepStatus::Pending if index == plan.cursor => "▶",
                StepStatus::Pending => " ",
            };
            let check = step.milestone.check.as_ref().map(|check| format!("   [{check}]")).unwrap_or_default();
            self.line("2", &format!("  {mark} {:>2} {}{check}", index + 1, step.text));
        }
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
            self.line("1;32", &format!("answer: {answer}"));
        }
    }
}

impl<W: Write + Send> Listener for LiveView<W> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Plan(plan) => self.plan(plan),
            Event::Milestone(plan, index) => {
                if let Some(step) = plan.steps.get(index) {
                    self.line("32", &format!("  ✓ milestone {:>2} {}", index + 1, step.text));
                }
            }
            Event::Began(_) | Event::Observed(_) => {}
            Event::Step(step) => {
                self.shown += 1;
                let target = step.action.target().and_then(|id| step.observation.element(id));
                let target = target.map(|element| format!("  ({} {:?})", element.role, element.name)).unwrap_or_default();
                let times = step.timing;
                let rest = times.observe_ms + times.verify_ms + times.act_ms;
                let line = format!("{:>3} {}{target}  [model {:.0} ms, page {rest:.0} ms]", self.shown, step.action, times.decide_ms);
                match &step.outcome.error {
                    None => self.line("0", &line),
                    Some(error) => self.line("31", &format!("{line}  ✗ {error}")),
                }
            }
            Event::Ended(episode) => self.ended(episode),
        }
    }
}
