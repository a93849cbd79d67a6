//! Properties of an episode that need no judge: repetitions, errors, and whether an action is an expert's.

use milepost_runtime::{Action, Step, Stop};

use super::config::Match;

/// Returns true if the model's output could not be parsed.
pub(super) fn malformed(stop: Option<&Stop>) -> bool {
    matches!(stop, Some(Stop::Malformed(_)))
}

/// Returns true if the episode has not ended, or ended for a reason outside the policy: a failure of the environment, or a cancellation.
pub fn ended_externally(stop: Option<&Stop>) -> bool {
    stop.is_none_or(Stop::ended_from_outside)
}

/// Returns the steps that repeat the action of the previous step on the same page (RLTR, 2508.19598, section 3.3). Element ids mean
/// different elements on different pages, so elements are compared by role and name. Scrolling and waiting may be repeated.
pub(super) fn repetitions(steps: &[Step]) -> Vec<usize> {
    let described = |step: &Step| {
        let element = step.action.target().and_then(|id| step.observation.element(id));
        let line = step.action.to_string();
        element.map(|element| line.replacen(&element.id.to_string(), &format!("{} {}", element.role, element.name), 1)).unwrap_or(line)
    };
    let repeatable = |action: &Action| matches!(action, Action::Scroll(_) | Action::Wait);
    (1..steps.len())
        .filter(|&at| {
            let (before, step) = (&steps[at - 1], &steps[at]);
            !repeatable(&step.action) && step.observation.path() == before.observation.path() && described(step) == described(before)
        })
        .collect()
}

/// Returns the steps whose action was invalid or failed. RLTR does not specify how it tests whether a call is valid.
pub(super) fn errors(steps: &[Step]) -> Vec<usize> {
    (0..steps.len()).filter(|&at| !steps[at].outcome.ok).collect()
}

/// Returns true if an action is one of the expert's actions, `r(s, a)` of the single-turn problem (2509.20616, section 3). With more than
/// one correct action the paper's theorem no longer holds, but correct actions are not punished.
pub fn expert_match(action: &Action, experts: &[Action], matching: Match) -> bool {
    experts.iter().any(|expert| matching.same(&expert.to_string(), &action.to_string()))
}
