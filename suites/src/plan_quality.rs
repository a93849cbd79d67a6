//! The ground truth of a plan's quality, from its steps and checks, the reference milestones and a reference run.

use milepost_runtime::{Check, Observation, Plan, PlanScores, PlanStep, StepStatus, Verdict};

use crate::instance::ReferenceMilestone;
use crate::plan_steps::Intent;

/// Scores a plan on PilotRL's scales (2508.00344, section 2.2), 1 to 5. Steps that a revision gave up as failed do not count.
///
/// - **Correctness**: `1 + 4 · covered / milestones`, rounded down, less 1 for each false check, at least 1. A reference milestone is
///   covered if a check of the plan becomes true on the same page of the reference run as the milestone does; a check that held on the page
///   before covers nothing, so trivial checks never do. A check is false if it holds neither on a page of the reference run nor on a page
///   that the episode saw.
/// - **Executability**: `1 + 4 · share`, rounded down, where `share` is the share of steps with a check that some page decides.
/// - **Standardization**: `1 + 4 · share`, rounded down, where `share` is the share of steps in the suite's form; less 1, at least 1, if
///   the last step is not `answer`.
pub(crate) fn score(plan: &Plan, milestones: &[ReferenceMilestone], reference: &[Observation], seen: &[&Observation]) -> PlanScores {
    let steps: Vec<&PlanStep> = plan.steps.iter().filter(|step| step.status != StepStatus::Failed).collect();
    let checks: Vec<&Check> = steps.iter().filter_map(|step| step.milestone.check.as_ref()).collect();
    let pages = || reference.iter().chain(seen.iter().copied());
    let verdict_somewhere = |check: &Check, fits: fn(Verdict) -> bool| pages().any(|page| fits(check.evaluate(page)));

    let covered = milestones.iter().filter(|milestone| covers(&checks, &milestone.check, reference)).count();
    let untrue = checks.iter().filter(|check| !verdict_somewhere(check, |verdict| verdict == Verdict::True)).count();
    let decidable = checks.iter().filter(|check| verdict_somewhere(check, |verdict| verdict != Verdict::Unknown)).count();
    let formed = steps.iter().filter(|step| Intent::parse(&step.text).is_ok()).count();
    let closed = steps.last().is_some_and(|step| step.text == "answer");
    PlanScores {
        correctness: (graded(covered, milestones.len()) - untrue as f64).max(1.0),
        executability: graded(decidable, steps.len()),
        standardization: (graded(formed, steps.len()) - f64::from(!closed)).max(1.0),
    }
}

/// Maps a share to a grade from 1 to 5, rounded down.
fn graded(part: usize, whole: usize) -> f64 {
    1.0 + (4 * part / whole.max(1)) as f64
}

/// Returns whether one of the checks becomes true on the page where the milestone does, and was not true on the page before.
fn covers(checks: &[&Check], milestone: &Check, reference: &[Observation]) -> bool {
    let holds = |check: &Check, page: usize| check.evaluate(&reference[page]) == Verdict::True;
    match (0..reference.len()).find(|page| holds(milestone, *page)) {
        None | Some(0) => false,
        Some(page) => checks.iter().any(|check| holds(check, page) && !holds(check, page - 1)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Observation {
        Observation { url: format!("http://site.local{path}"), text: text.into(), ..Observation::default() }
    }

    /// Scores a plan against a run from the home page over an item into the cart and to the order; the cart and the order are milestones.
    fn check(plan: &str, want: [f64; 3]) {
        let run = [page("/", ""), page("/item/1", "About Mug"), page("/item/1", "Added 1 Mug"), page("/order", "Order number 7")];
        let milestone = |check: &str| ReferenceMilestone { text: String::new(), check: Check::parse(check).unwrap() };
        let milestones = [milestone("text visible \"Added 1 Mug\""), milestone("text visible \"Order number\"")];
        let plan = Plan::new(Plan::parse_steps(plan).unwrap());
        let other = page("/search", "Results");
        let scores = score(&plan, &milestones, &run, &[&other]);
        assert_eq!([scores.correctness, scores.executability, scores.standardization], want, "{plan:?}");
    }

    #[test]
    fn plans_are_scored_against_the_reference() {
        let whole = "click \"Mug\" => text visible \"About Mug\"\nclick \"Add to cart\" => text visible \"Added 1\"\n";
        check(&format!("{whole}click \"Place order\" => url contains \"/order\"\nanswer => url contains \"/order\""), [5.0, 5.0, 5.0]);
        // The plan covers half of the milestones, and has no closing `answer`.
        check(whole, [3.0, 5.0, 4.0]);
        // A check that holds on a page that only this episode saw is not false; one that holds on no page is false.
        check(&format!("click \"Search\" => url contains \"/search\"\n{whole}answer"), [3.0, 4.0, 5.0]);
        check(&format!("click \"Sale\" => url contains \"/sale\"\n{whole}answer"), [2.0, 4.0, 5.0]);
        // Trivial checks cover no milestone.
        check("click \"Mug\" => url contains \"/\"\nanswer => url contains \"http\"", [1.0, 5.0, 5.0]);
        // The steps are not in the suite's form, and have no checks.
        check("buy the mug\nfinish", [1.0, 1.0, 1.0]);
        check("", [1.0, 1.0, 1.0]);
    }
}
