//! What can be told from an episode without a judge: repetitions, errors, and whether an action is an expert's.

use milepost_runtime::{Action, Step, Stop};

use super::config::Match;

/// Whether what the model wrote could not be read.
pub(super) fn malformed(stop: Option<&Stop>) -> bool {
    matches!(stop, Some(Stop::Malformed(_)))
}

/// Whether the episode was ended by something that is no fault of the policy, or not ended at all.
pub fn disturbed(stop: Option<&Stop>) -> bool {
    matches!(stop, None | Some(Stop::Failed(_) | Stop::Cancelled))
}

/// Steps whose action repeats the one before (RLTR, 2508.19598, section 3.3): the same on the same page. Ids change their meaning from
/// page to page, so elements are compared by role and name. Scrolling and waiting are there to be repeated.
pub(super) fn repetitions(steps: &[Step]) -> Vec<usize> {
    let told = |step: &Step| {
        let element = step.action.target().and_then(|id| step.observation.element(id));
        let line = step.action.to_string();
        element.map(|element| line.replacen(&element.id.to_string(), &format!("{} {}", element.role, element.name), 1)).unwrap_or(line)
    };
    let meant = |action: &Action| matches!(action, Action::Scroll(_) | Action::Wait);
    (1..steps.len())
        .filter(|&at| {
            let (before, step) = (&steps[at - 1], &steps[at]);
            !meant(&step.action) && step.observation.path() == before.observation.path() && told(step) == told(before)
        })
        .collect()
}

/// Steps whose action was invalid or failed: the membership test of the valid calls, which RLTR does not tell.
pub(super) fn errors(steps: &[Step]) -> Vec<usize> {
    (0..steps.len()).filter(|&at| !steps[at].outcome.ok).collect()
}

/// Whether an action is one of an expert's, `r(s, a)` of the single-turn problem (2509.20616, section 3). With more than one right action
/// its theorem no longer holds, but right play is not punished.
pub fn expert_match(action: &Action, experts: &[Action], matching: Match) -> bool {
    experts.iter().any(|expert| matching.same(&expert.to_string(), &action.to_string()))
}
