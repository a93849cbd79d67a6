//! Where an episode went wrong (MiRA, 2603.19685, key decision step): the first divergence for good from a success, or the entry of a loop.

use std::collections::HashMap;

use milepost_runtime::{Action, Episode, Step};
use serde::{Deserialize, Serialize};

use super::FailureConfig;

/// The step that decided a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDecision {
    /// Its turn, from 0.
    pub turn: u32,
    /// The action that was taken.
    pub action: String,
    /// What makes it the one.
    #[serde(flatten)]
    pub why: Why,
}

/// What makes a step the one that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A success of the same task stood in the same state and did something else; this run came no further along its path.
    Diverged {
        /// Id of that episode.
        from: String,
        /// What it did there.
        instead: String,
    },
    /// From here on the same actions repeat until the end.
    Loop {
        /// Actions in one turn of the loop.
        period: usize,
    },
}

/// The step that decided a failure: against the success among `peers` that it followed furthest, else where its last loop begins; `None` where
/// neither is to be seen. Peers are episodes of the same task.
pub fn key_decision(config: &FailureConfig, episode: &Episode, peers: &[Episode]) -> Option<KeyDecision> {
    let states: Vec<String> = episode.steps.iter().map(|step| step.observation.fingerprint()).collect();
    let successes = peers.iter().filter(|peer| peer.success == Some(true) && peer.id != episode.id);
    let diverged = successes.filter_map(|peer| divergence(&episode.steps, &states, peer));
    // Of equals the first: peers come in an order that means something to the caller.
    let best = diverged.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (turn, why) = match best {
        Some((_, at, why)) => (at, why),
        None => loop_entry(config, &episode.steps).map(|(at, period)| (at, Why::Loop { period }))?,
    };
    let step = &episode.steps[turn];
    Some(KeyDecision { turn: step.turn, action: step.action.to_string(), why })
}

/// How far along a success's path a run came, the step at which it left it, and what the success did there.
fn divergence(steps: &[Step], states: &[String], peer: &Episode) -> Option<(usize, usize, Why)> {
    let path: HashMap<String, usize> = peer.steps.iter().enumerate().map(|(at, step)| (step.observation.fingerprint(), at)).collect();
    let furthest = states.iter().filter_map(|state| path.get(state)).copied().max()?;
    let instead = &peer.steps[furthest].action;
    let left = |at: &usize| path.get(&states[*at]) == Some(&furthest) && steps[*at].action != *instead;
    let at = (0..steps.len()).find(left)?;
    Some((furthest, at, Why::Diverged { from: peer.id.clone(), instead: instead.to_string() }))
}

/// The first step of the loop that an episode ends in, and the loop's length.
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

    /// Steps as (page, action).
    fn run(id: &str, success: bool, steps: &[(&str, &str)]) -> Episode {
        let actions: Vec<&str> = steps.iter().map(|(_, action)| *action).collect();
        let mut run = episode(Stop::StepLimit, Some(success), &actions);
        run.id = id.into();
        for (step, (page, _)) in run.steps.iter_mut().zip(steps) {
            step.observation.text = (*page).into();
        }
        run
    }

    fn check(want: Option<(u32, Why)>, failed: &[(&str, &str)], peers: &[Episode]) {
        let got = key_decision(&FailureConfig::default(), &run("failed", false, failed), peers);
        assert_eq!(got.map(|key| (key.turn, key.why)), want);
    }

    #[test]
    fn the_step_that_left_the_path_of_a_success_for_good_decided() {
        let good = run("good", true, &[("home", "click 1"), ("list", "click 2"), ("item", "click 3"), ("done", "back")]);
        let diverged = |instead: &str| Why::Diverged { from: "good".into(), instead: instead.into() };
        check(
            Some((1, diverged("click 2"))),
            &[("home", "click 1"), ("list", "click 9"), ("help", "click 1")],
            std::slice::from_ref(&good),
        );
        // It came back and went on, so that the detour did not decide.
        let detour =
            [("home", "click 1"), ("list", "click 9"), ("help", "back"), ("list", "click 2"), ("item", "click 7"), ("odd", "back")];
        check(Some((4, diverged("click 3"))), &detour, std::slice::from_ref(&good));
        // It did what the success did in every state that both knew.
        check(None, &[("home", "click 1"), ("fork", "click 2")], std::slice::from_ref(&good));
        // Of two successes the one that was followed further.
        let other = run("other", true, &[("home", "click 5"), ("end", "back")]);
        check(Some((1, diverged("click 2"))), &[("home", "click 1"), ("list", "click 9")], &[other.clone(), good.clone()]);
        let failed = Episode { success: Some(false), ..good };
        check(Some((0, Why::Diverged { from: "other".into(), instead: "click 5".into() })), &[("home", "click 1")], &[failed, other]);
    }

    #[test]
    fn without_a_success_the_entry_of_the_last_loop_decided() {
        check(Some((2, Why::Loop { period: 1 })), &[("a", "click 1"), ("b", "click 2"), ("c", "back"), ("c", "back"), ("c", "back")], &[]);
        let cycle = [("a", "click 9"), ("a", "click 1"), ("b", "back"), ("a", "click 1"), ("b", "back"), ("a", "click 1"), ("b", "back")];
        check(Some((1, Why::Loop { period: 2 })), &cycle, &[]);
        check(None, &[("a", "click 1"), ("b", "click 2"), ("c", "back"), ("c", "back")], &[]);
    }

    #[test]
    fn it_is_written_flat() {
        let key = KeyDecision { turn: 3, action: "back".into(), why: Why::Diverged { from: "e".into(), instead: "click 1".into() } };
        let json = serde_json::to_value(&key).unwrap();
        assert_eq!((&json["turn"], &json["diverged"]["instead"]), (&3.into(), &"click 1".into()), "{json}");
    }
}
