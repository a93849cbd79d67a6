//! The ground truth of a plan's quality: its steps and checks against the reference milestones and a reference run.

use milepost_runtime::{Check, Observation, Plan, PlanScores, PlanStep, StepStatus, Verdict};

use crate::instance::ReferenceMilestone;
use crate::plan_steps::Intent;

/// Scores a plan on PilotRL's scales (2508.00344, section 2.2), 1 to 5. Steps that a revision gave up as failed do not count.
///
/// - **Correctness**: `1 + 4 · covered / milestones`, rounded down, less 1 for each false check, at least 1. A reference milestone is covered
///   where a check of the plan comes true on the same page of the reference run as the milestone does; a check that held on the
///   page before covers nothing, so trivial ones never do. A check is false where it holds neither on a page of the reference run nor on one that the episode saw.
/// - **Executability**: `1 + 4 · share`, rounded down, of the steps that have a check which some page decides.
/// - **Standardization**: `1 + 4 · share`, rounded down, of the steps in the suite's form; less 1, at least 1, where the last is not `answer`.
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

fn graded(part: usize, whole: usize) -> f64 {
    1.0 + (4 * part / whole.max(1)) as f64
}

/// Whether one of the checks comes true on the page where the milestone does, not being true on the page before.
fn covers(checks: &[&Check], milestone: &Check, reference: &[Observation]) -> bool {
    let holds = |check: &Check, page: usize| check.evaluate(&reference[page]) == Verdict::True;
    match (0..reference.len()).find(|page| holds(milestone, *page)) {
        None | Some(0) => false,
        Some(page) => checks.iter().any(|check| holds(check, page) && !holds(check, page - 1)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Observation {
        Observation { url: format!("http://site.local{path}"), text: text.into(), ..Observation::default() }
    }

    /// A run from the home page over an item into the cart and to the order; the cart and the order are milestones.
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
        // Half of the milestones, and no closing `answer`.
        check(whole, [3.0, 5.0, 4.0]);
        // A page that only this episode saw is no false claim; one that nobody saw is.
        check(&format!("click \"Search\" => url contains \"/search\"\n{whole}answer"), [3.0, 4.0, 5.0]);
        check(&format!("click \"Sale\" => url contains \"/sale\"\n{whole}answer"), [2.0, 4.0, 5.0]);
        // Trivial checks cover nothing.
        check("click \"Mug\" => url contains \"/\"\nanswer => url contains \"http\"", [1.0, 5.0, 5.0]);
        // Steps in other words, without checks.
        check("buy the mug\nfinish", [1.0, 1.0, 1.0]);
        check("", [1.0, 1.0, 1.0]);
    }
}
