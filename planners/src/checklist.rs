//! MiRA's reflection over the checklist of subgoals (2603.19685, section 3.2). Its verdicts are those of checks and of the verifier, never
//! of the acting policy.

use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{Plan, PlanStep, StepStatus, Verdict};
use serde::Serialize;

/// The values with which a template asks the three questions.
#[derive(Serialize)]
pub(crate) struct Checklist {
    /// Every step's milestone with its verdict, for "What is achieved?".
    milestones: Vec<MilestoneView>,
    /// The answer to "Is the current step complete?".
    current: &'static str,
}

/// A milestone as a template sees it.
#[derive(Serialize)]
struct MilestoneView {
    number: usize,
    text: String,
    mark: &'static str,
}

impl Checklist {
    /// Makes the checklist of a plan from the verdicts of its checks and of the verifier.
    pub(crate) fn of(plan: &Plan) -> Self {
        let milestones = plan.steps.iter().enumerate().map(|(index, step)| MilestoneView {
            number: index + 1,
            text: match &step.milestone.check {
                Some(check) => format!("{} => {check}", step.text),
                None => step.text.clone(),
            },
            mark: mark(step),
        });
        let current = match plan.current().map(|step| step.milestone.verdict) {
            Some(Verdict::True) | None => "yes",
            Some(Verdict::False) => "no",
            Some(Verdict::Unknown) => "it is not known",
        };
        Self { milestones: milestones.collect(), current }
    }
}

/// Returns the mark of a step's milestone, as the prompt shows it.
fn mark(step: &PlanStep) -> &'static str {
    match (step.status, step.milestone.verdict, step.milestone.by) {
        (StepStatus::Done, _, Some(VerdictBy::Verifier)) => "achieved, says the verifier",
        (StepStatus::Done, ..) => "achieved, says its check",
        (StepStatus::Failed, ..) => "given up",
        (StepStatus::Pending, Verdict::False, _) => "not achieved",
        (StepStatus::Pending, ..) => "open",
    }
}
