//! MiRA's reflection over the checklist of subgoals (2603.19685, section 3.2): verdicts that the acting policy did not write.

use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{Plan, PlanStep, StepStatus, Verdict};
use serde::Serialize;

/// What a template needs to ask the three questions.
#[derive(Serialize)]
pub(crate) struct Checklist {
    /// What is achieved: every step's milestone with its verdict.
    milestones: Vec<MilestoneView>,
    /// Whether the current subgoal is complete.
    current: &'static str,
}

/// One milestone as a template sees it.
#[derive(Serialize)]
struct MilestoneView {
    number: usize,
    text: String,
    mark: &'static str,
}

impl Checklist {
    /// The checklist of a plan as its checks and the verifier left it.
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

fn mark(step: &PlanStep) -> &'static str {
    match (step.status, step.milestone.verdict, step.milestone.by) {
        (StepStatus::Done, _, Some(VerdictBy::Verifier)) => "achieved, says the verifier",
        (StepStatus::Done, ..) => "achieved, says its check",
        (StepStatus::Failed, ..) => "given up",
        (StepStatus::Pending, Verdict::False, _) => "not achieved",
        (StepStatus::Pending, ..) => "open",
    }
}
