//! No-progress detection: the same action on the same page, or no new milestone for a while.

use crate::action::Action;
use crate::task::Limits;

/// Counts repetitions and turns without a milestone. The first stall forces a revision, the second ends the episode.
#[derive(Debug, Default)]
pub struct Progress {
    seen: std::collections::HashMap<(String, String), u32>,
    since_milestone: u32,
    warned: bool,
}

/// What the detector says after a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Pace {
    /// Going on.
    Moving,
    /// The first stall: the planner must revise.
    Stalled,
    /// The second stall: the episode ends, with the reason.
    Stuck(String),
}

impl Progress {
    /// A milestone was reached: counters start again.
    pub fn milestone(&mut self) {
        self.since_milestone = 0;
        self.seen.clear();
        self.warned = false;
    }

    /// Takes in one turn. `planned` says whether there is a plan whose milestones could move.
    pub fn turn(&mut self, fingerprint: &str, action: &Action, planned: bool, limits: &Limits) -> Pace {
        let repeats = self.seen.entry((fingerprint.to_owned(), action.to_string())).or_default();
        *repeats += 1;
        let repeats = *repeats;
        self.since_milestone += 1;
        let reason = if repeats >= limits.same_action {
            format!("`{action}` was tried {repeats} times on the same page")
        } else if planned && self.since_milestone >= limits.no_milestone {
            format!("no new milestone in {} turns", self.since_milestone)
        } else {
            return Pace::Moving;
        };
        if self.warned {
            return Pace::Stuck(reason);
        }
        self.warned = true;
        self.seen.clear();
        self.since_milestone = 0;
        Pace::Stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stall_warns_and_the_second_ends() {
        let (mut progress, limits) = (Progress::default(), Limits { same_action: 2, ..Limits::default() });
        let action = Action::Click(1);
        assert_eq!(progress.turn("a", &action, true, &limits), Pace::Moving);
        assert_eq!(progress.turn("a", &action, true, &limits), Pace::Stalled);
        assert_eq!(progress.turn("a", &action, true, &limits), Pace::Moving);
        assert!(matches!(progress.turn("a", &action, true, &limits), Pace::Stuck(_)));
    }

    #[test]
    fn without_a_plan_only_repetition_counts() {
        let (mut progress, limits) = (Progress::default(), Limits { no_milestone: 2, ..Limits::default() });
        for id in 0..20 {
            assert_eq!(progress.turn("a", &Action::Click(id), false, &limits), Pace::Moving);
        }
        assert_eq!(progress.turn("b", &Action::Click(0), true, &limits), Pace::Stalled);
    }
}
