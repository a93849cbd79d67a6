//! No-progress detection: the same action is repeated on the same page, or no new milestone is reached for some turns.

use std::collections::HashMap;

use crate::action::Action;
use crate::task::Limits;

/// Counts repeated actions, and turns without a new milestone. The first stall forces a revision, the second ends the episode.
#[derive(Debug, Default)]
pub struct ProgressMonitor {
    /// How often each action was tried, by the page's fingerprint and the action's line.
    tried: HashMap<(String, String), u32>,
    turns_since_milestone: u32,
    stalled_before: bool,
}

/// The status that the monitor reports after a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum ProgressStatus {
    /// No stall.
    Progressing,
    /// The first stall: the planner must revise.
    Stalled,
    /// The second stall: the episode ends, with the reason.
    Stuck(String),
}

impl ProgressMonitor {
    /// Records that a milestone was reached, which resets all counters.
    pub fn milestone_reached(&mut self) {
        *self = Self::default();
    }

    /// Records one turn. `planned` says whether there is a plan whose milestones could be reached.
    pub fn record_turn(&mut self, fingerprint: &str, action: &Action, planned: bool, limits: &Limits) -> ProgressStatus {
        let repeats = self.tried.entry((fingerprint.to_owned(), action.to_string())).or_default();
        *repeats += 1;
        let repeats = *repeats;
        self.turns_since_milestone += 1;
        let reason = if repeats >= limits.same_action {
            format!("`{action}` was tried {repeats} times on the same page")
        } else if planned && self.turns_since_milestone >= limits.no_milestone {
            format!("no new milestone in {} turns", self.turns_since_milestone)
        } else {
            return ProgressStatus::Progressing;
        };
        if self.stalled_before {
            return ProgressStatus::Stuck(reason);
        }
        *self = Self { stalled_before: true, ..Self::default() };
        ProgressStatus::Stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stall_warns_and_the_second_ends() {
        let (mut progress, limits) = (ProgressMonitor::default(), Limits { same_action: 2, ..Limits::default() });
        let action = Action::Click(1);
        assert_eq!(progress.record_turn("a", &action, true, &limits), ProgressStatus::Progressing);
        assert_eq!(progress.record_turn("a", &action, true, &limits), ProgressStatus::Stalled);
        assert_eq!(progress.record_turn("a", &action, true, &limits), ProgressStatus::Progressing);
        assert!(matches!(progress.record_turn("a", &action, true, &limits), ProgressStatus::Stuck(_)));
    }

    #[test]
    fn without_a_plan_only_repetition_counts() {
        let (mut progress, limits) = (ProgressMonitor::default(), Limits { no_milestone: 2, ..Limits::default() });
        for id in 0..20 {
            assert_eq!(progress.record_turn("a", &Action::Click(id), false, &limits), ProgressStatus::Progressing);
        }
        assert_eq!(progress.record_turn("b", &Action::Click(0), true, &limits), ProgressStatus::Stalled);
    }
}
