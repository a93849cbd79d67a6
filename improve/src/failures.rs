//! The failure taxonomy: classifies failed episodes by rules in a fixed order (MiRA, 2603.19685, failure taxonomy).

use std::collections::BTreeMap;

use milepost_runtime::{Action, Episode, StepStatus, Stop};
use serde::{Deserialize, Serialize};

mod decision;
mod explanation;

pub use decision::{DecisionReason, KeyDecision, key_decision};
pub use explanation::{Explanation, explain};

/// The class of a failure: the first class whose rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The agent ended the episode itself, by an answer or by giving up, and was judged wrong ("stop at wrong page").
    WrongTermination,
    /// The last actions repeat themselves, or the agent loop ended the episode because there was no progress ("get stuck midway").
    Stuck,
    /// The agent did not end the episode although its plan was completed, or the episode was over after very few actions ("fail to make
    /// reasonable attempt").
    NoAttempt,
    /// None of the other classes.
    Other,
}

impl FailureClass {
    /// All classes, in the order in which their rules are applied.
    pub const ALL: [Self; 4] = [Self::WrongTermination, Self::Stuck, Self::NoAttempt, Self::Other];
}

/// The parameters of the rules, which MiRA does not publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailureConfig {
    /// The number of identical actions at the end that count as stuck (the paper's N).
    pub identical_actions: usize,
    /// The number of repetitions of a cycle of actions at the end that count as stuck (the paper's M).
    pub cycle_repeats: usize,
    /// The maximum length of a cycle, in actions.
    pub longest_cycle: usize,
    /// The maximum number of actions of an episode that counts as no reasonable attempt.
    pub early_actions: usize,
}

impl Default for FailureConfig {
    fn default() -> Self {
        Self { identical_actions: 3, cycle_repeats: 3, longest_cycle: 4, early_actions: 2 }
    }
}

/// The number of failed episodes by class, with the totals that shares refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The number of episodes.
    pub episodes: usize,
    /// The number of episodes without a verified outcome, which are neither failures nor successes.
    pub unverified: usize,
    /// The number of episodes that were verified as failures.
    pub failures: usize,
    /// The number of failures in each class, including classes without any.
    pub classes: BTreeMap<FailureClass, usize>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { episodes: 0, unverified: 0, failures: 0, classes: FailureClass::ALL.map(|class| (class, 0)).into() }
    }
}

impl Failures {
    /// Counts one episode.
    pub fn add(&mut self, config: &FailureConfig, episode: &Episode) {
        self.episodes += 1;
        self.unverified += usize::from(episode.success.is_none());
        if let Some(class) = classify(config, episode) {
            self.failures += 1;
            *self.classes.entry(class).or_default() += 1;
        }
    }

    /// Counts the failures among these episodes.
    pub fn count<'a>(config: &FailureConfig, episodes: impl IntoIterator<Item = &'a Episode>) -> Self {
        let mut counted = Self::default();
        episodes.into_iter().for_each(|episode| counted.add(config, episode));
        counted
    }
}

/// Returns the class of an episode that was verified as a failure; `None` for any other episode.
pub fn classify(config: &FailureConfig, episode: &Episode) -> Option<FailureClass> {
    if episode.success != Some(false) {
        return None;
    }
    let actions: Vec<&Action> = episode.steps.iter().map(|step| &step.action).collect();
    Some(if matches!(episode.stop, Some(Stop::Answered | Stop::GaveUp(_))) {
        FailureClass::WrongTermination
    } else if matches!(episode.stop, Some(Stop::NoProgress(_))) || ends_in_repetition(config, &actions) {
        FailureClass::Stuck
    } else if plan_is_completed(episode) || actions.len() <= config.early_actions {
        FailureClass::NoAttempt
    } else {
        FailureClass::Other
    })
}

/// Returns true if the last actions repeat one action, or a short cycle of actions, often enough.
fn ends_in_repetition(config: &FailureConfig, actions: &[&Action]) -> bool {
    let cycle = |period: usize, times: usize| {
        let len = period * times;
        len > period && actions.len() >= len && {
            let end = &actions[actions.len() - len..];
            (period..len).all(|i| end[i] == end[i - period])
        }
    };
    cycle(1, config.identical_actions) || (2..=config.longest_cycle).any(|period| cycle(period, config.cycle_repeats))
}

/// Returns true if the plan has steps with a check and all of them are done (failed steps aside), so that the agent only had to end the
/// episode.
fn plan_is_completed(episode: &Episode) -> bool {
    episode.plan().is_some_and(|plan| {
        let mut checked = plan.steps.iter().filter(|step| step.status != StepStatus::Failed && step.milestone.check.is_some()).peekable();
        checked.peek().is_some() && checked.all(|step| step.status == StepStatus::Done)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use milepost_runtime::plan::VerdictBy;
    use milepost_runtime::{Observation, Outcome, Plan, Planned, Revision, Step, Task, Verdict};

    use super::*;

    /// Builds an episode that ended like this after these actions.
    pub(crate) fn episode(stop: Stop, success: Option<bool>, actions: &[&str]) -> Episode {
        let mut episode = Episode::begin(Task::new("Buy the mug.", "http://shop.local/").unwrap(), "adaplan", "g");
        let step = |(turn, action): (usize, &&str)| Step {
            turn: turn as u32,
            observation: Observation::default(),
            revision: Revision::Keep,
            plan_version: 1,
            cursor: 0,
            action: Action::parse(action).unwrap(),
            outcome: Outcome::done(),
            calls: Vec::new(),
            reached: Vec::new(),
            timing: Default::default(),
            screenshot: None,
        };
        episode.steps = actions.iter().enumerate().map(step).collect();
        (episode.stop, episode.success) = (Some(stop), success);
        episode
    }

    fn check_class(want: Option<FailureClass>, episode: &Episode) {
        let words: Vec<String> = episode.steps.iter().map(|step| step.action.to_string()).collect();
        assert_eq!(classify(&FailureConfig::default(), episode), want, "{:?} after {words:?}", episode.stop);
    }

    const MOVING: [&str; 5] = ["click 1", "click 2", "click 3", "back", "click 4"];

    #[test]
    fn rules_hold_in_their_order() {
        use FailureClass::{NoAttempt, Other, Stuck, WrongTermination};
        let failed = |stop, actions: &[&str]| episode(stop, Some(false), actions);
        // The rule on how the episode ended comes first, whatever was repeated before.
        check_class(Some(WrongTermination), &failed(Stop::Answered, &["click 1", "click 1", "click 1"]));
        check_class(Some(WrongTermination), &failed(Stop::GaveUp("no idea".into()), &MOVING));
        check_class(Some(Stuck), &failed(Stop::StepLimit, &["click 9", "click 1", "click 1", "click 1"]));
        check_class(Some(Stuck), &failed(Stop::StepLimit, &["click 9", "back", "click 9", "back", "click 9", "back"]));
        check_class(Some(Stuck), &failed(Stop::NoProgress("again".into()), &MOVING));
        check_class(Some(Other), &failed(Stop::StepLimit, &["click 9", "back", "click 9", "back", "click 8", "back"]));
        check_class(Some(NoAttempt), &failed(Stop::TimeLimit, &["click 1", "click 1"]));
        check_class(Some(Other), &failed(Stop::StepLimit, &MOVING));
    }

    #[test]
    fn an_episode_that_completes_its_plan_and_does_not_end_is_no_attempt() {
        let mut one = episode(Stop::StepLimit, Some(false), &MOVING);
        let line = |text| Planned::parse(text).unwrap();
        let mut plan = Plan::new(vec![line("pay => text visible \"thank you\""), line("answer")]);
        one.plans = vec![plan.clone()];
        check_class(Some(FailureClass::Other), &one);
        plan.record_verdict(Verdict::True, VerdictBy::Check, 3);
        one.plans = vec![plan];
        check_class(Some(FailureClass::NoAttempt), &one);
    }

    #[test]
    fn counts_come_with_their_totals() {
        let episodes = [
            episode(Stop::Answered, Some(true), &MOVING),
            episode(Stop::Answered, Some(false), &MOVING),
            episode(Stop::StepLimit, Some(false), &MOVING),
            episode(Stop::Failed("the browser died".into()), None, &MOVING),
        ];
        let counted = Failures::count(&FailureConfig::default(), &episodes);
        assert_eq!((counted.episodes, counted.unverified, counted.failures), (4, 1, 2));
        assert_eq!(counted.classes.values().copied().collect::<Vec<_>>(), [1, 0, 0, 1]);
        let json = serde_json::to_value(&counted).unwrap();
        assert_eq!(json["classes"]["wrong_termination"], 1);
    }
}
