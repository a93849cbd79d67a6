//! The key decision of a failed episode (MiRA, 2603.19685, key decision step): the step at which it left the path of a success for good, or
//! entered a loop.

use std::collections::HashMap;

use milepost_runtime::{Action, Episode, Step};
use serde::{Deserialize, Serialize};

use super::FailureConfig;

/// The step that decided that an episode failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDecision {
    /// The turn of the step, from 0.
    pub turn: u32,
    /// The action that was taken.
    pub action: String,
    /// Why this step was decisive.
    #[serde(flatten)]
    pub reason: DecisionReason,
}

/// The reason why a step was decisive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionReason {
    /// A successful episode of the same task took another action in the same state, and this episode came no further along its path.
    Diverged {
        /// The id of the successful episode.
        from: String,
        /// The action that the successful episode took.
        instead: String,
    },
    /// From this step on the same actions repeat until the end.
    Loop {
        /// The number of actions in one cycle of the loop.
        period: usize,
    },
}

/// Finds the step that decided a failure: where it left the path of the success among `peers` that it followed furthest, otherwise where
/// its last loop begins; `None` if there is neither. Peers are episodes of the same task.
pub fn key_decision(config: &FailureConfig, episode: &Episode, peers: &[Episode]) -> Option<KeyDecision> {
    let states: Vec<String> = episode.steps.iter().map(|step| step.observation.fingerprint()).collect();
    let successes = peers.iter().filter(|peer| peer.success == Some(true) && peer.id != episode.id);
    let diverged = successes.filter_map(|peer| divergence(&episode.steps, &states, peer));
    // Of equally good peers the first is taken, because the caller determines their order.
    let best = diverged.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (at, reason) = match best {
        Some((_, at, reason)) => (at, reason),
        None => loop_entry(config, &episode.steps).map(|(at, period)| (at, DecisionReason::Loop { period }))?,
    };
    let step = &episode.steps[at];
    Some(KeyDecision { turn: step.turn, action: step.action.to_string(), reason })
}

/// Returns how far an episode followed the path of a successful peer, the step at which it left the path, and the peer's action there.
fn divergence(steps: &[Step], states: &[String], peer: &Episode) -> Option<(usize, usize, DecisionReason)> {
    let path: HashMap<String, usize> = peer.steps.iter().enumerate().map(|(at, step)| (step.observation.fingerprint(), at)).collect();
    let furthest = states.iter().filter_map(|state| path.get(state)).copied().max()?;
    let instead = &peer.steps[furthest].action;
    let left = |at: &usize| path.get(&states[*at]) == Some(&furthest) && steps[*at].action != *instead;
    let at = (0..steps.len()).find(left)?;
    Some((furthest, at, DecisionReason::Diverged { from: peer.id.clone(), instead: instead.to_string() }))
}

/// Returns the first step of the loop in which an episode ends, and the loop's length.
fn loop_entry(config: &FailureConfig, steps: &[Step]) -> Option<(usize, usize)> {
    let actions: Vec<&Action> = steps.iter().map(|step| &step.action).collect();
    (1..=config.longest_cycle).find_map(|period| {
        let times = if period == 1 { config.identical_actions } else { config.cycle_repeats };
        let repeated = (period..actions.len()).rev().take_while(|i| actions[*i] == actions[*i - period]).count();
        let len = repeated + period;
        (repeated > 0 && len >= period * times).then(|| (actions.len() - len, period))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::tests::episode;
    use milepost_runtime::Stop;

    /// Builds an episode from steps given as (page, action).
    fn run(id: &str, success: bool, steps: &[(&str, &str)]) -> Episode {
        let actions: Vec<&str> = steps.iter().map(|(_, action)| *action).collect();
        let mut run = episode(Stop::StepLimit, Some(success), &actions);
        run.id = id.into();
        for (step, (page, _)) in run.steps.iter_mut().zip(steps) {
            step.observation.text = (*page).into();
        }
        run
    }

    fn check(want: Option<(u32, DecisionReason)>, failed: &[(&str, &str)], peers: &[Episode]) {
        let got = key_decision(&FailureConfig::default(), &run("failed", false, failed), peers);
        assert_eq!(got.map(|key| (key.turn, key.reason)), want);
    }

    #[test]
    fn the_step_that_left_the_path_of_a_success_for_good_is_decisive() {
        let good = run("good", true, &[("home", "click 1"), ("list", "click 2"), ("item", "click 3"), ("done", "back")]);
        let diverged = |instead: &str| DecisionReason::Diverged { from: "good".into(), instead: instead.into() };
        check(
            Some((1, diverged("click 2"))),
            &[("home", "click 1"), ("list", "click 9"), ("help", "click 1")],
            std::slice::from_ref(&good),
        );
        // The episode returned to the path and continued on it, so the detour was not decisive.
        let detour =
            [("home", "click 1"), ("list", "click 9"), ("help", "back"), ("list", "click 2"), ("item", "click 7"), ("odd", "back")];
        check(Some((4, diverged("click 3"))), &detour, std::slice::from_ref(&good));
        // In every state that both episodes visited, they took the same action.
        check(None, &[("home", "click 1"), ("fork", "click 2")], std::slice::from_ref(&good));
        // Of two successes, the one that was followed further counts.
        let other = run("other", true, &[("home", "click 5"), ("end", "back")]);
        check(Some((1, diverged("click 2"))), &[("home", "click 1"), ("list", "click 9")], &[other.clone(), good.clone()]);
        let failed = Episode { success: Some(false), ..good };
        check(
            Some((0, DecisionReason::Diverged { from: "other".into(), instead: "click 5".into() })),
            &[("home", "click 1")],
            &[failed, other],
        );
    }

    #[test]
    fn without_a_success_the_entry_of_the_last_loop_is_decisive() {
        check(
            Some((2, DecisionReason::Loop { period: 1 })),
            &[("a", "click 1"), ("b", "click 2"), ("c", "back"), ("c", "back"), ("c", "back")],
            &[],
        );
        let cycle = [("a", "click 9"), ("a", "click 1"), ("b", "back"), ("a", "click 1"), ("b", "back"), ("a", "click 1"), ("b", "back")];
        check(Some((1, DecisionReason::Loop { period: 2 })), &cycle, &[]);
        check(None, &[("a", "click 1"), ("b", "click 2"), ("c", "back"), ("c", "back")], &[]);
    }

    #[test]
    fn the_reason_is_serialized_flat() {
        let key = KeyDecision {
            turn: 3,
            action: "back".into(),
            reason: DecisionReason::Diverged { from: "e".into(), instead: "click 1".into() },
        };
        let json = serde_json::to_value(&key).unwrap();
        assert_eq!((&json["turn"], &json["diverged"]["instead"]), (&3.into(), &"click 1".into()), "{json}");
    }
}
