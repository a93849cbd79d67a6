//! The report on many episodes of a suite: successes by level and template, actions, times and failures.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use milepost_runtime::Episode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failures::{FailureConfig, Failures};
use crate::statistics::{median, wilson};

/// The numbers of episodes and successes of a level or a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// The number of episodes.
    pub episodes: u64,
    /// The number of solved episodes.
    pub solved: u64,
}

impl Score {
    /// Returns the Wilson interval of the success rate at 95 %.
    pub fn interval(self) -> [f64; 2] {
        wilson(self.solved, self.episodes)
    }

    fn add(&mut self, solved: bool) {
        self.episodes += 1;
        self.solved += u64::from(solved);
    }
}

/// The scores of one level.
#[derive(Clone, Debug, Default)]
struct LevelTally {
    level: String,
    all: Score,
    /// The score of each template, by its id.
    templates: BTreeMap<String, Score>,
}

/// Counts episodes; `M` is the suite's count of milestones.
pub struct Tally<M> {
    rules: FailureConfig,
    levels: Vec<LevelTally>,
    milestones: M,
    invalid_actions: u64,
    actions: u64,
    model_ms: Vec<f64>,
    overhead_ms: Vec<f64>,
    failures: Failures,
}

impl<M: Default + AddAssign + Serialize> Tally<M> {
    /// Creates a tally of these levels without episodes; failures are classified by these rules.
    pub fn new<'a>(levels: impl IntoIterator<Item = &'a str>, rules: FailureConfig) -> Self {
        let level = |level: &str| LevelTally { level: level.to_owned(), ..LevelTally::default() };
        Self {
            rules,
            levels: levels.into_iter().map(level).collect(),
            milestones: M::default(),
            invalid_actions: 0,
            actions: 0,
            model_ms: Vec::new(),
            overhead_ms: Vec::new(),
            failures: Failures::default(),
        }
    }

    /// Counts an episode of a template on a level, and returns the score of the level so far.
    pub fn add(&mut self, level: &str, template: &str, episode: &Episode, solved: bool, milestones: M) -> Score {
        self.milestones += milestones;
        self.failures.add(&self.rules, episode);
        for step in &episode.steps {
            self.actions += 1;
            self.invalid_actions += u64::from(step.outcome.error.as_deref().is_some_and(|error| error.starts_with("invalid:")));
            self.model_ms.push(step.timing.decide_ms);
            self.overhead_ms.push(step.timing.observe_ms + step.timing.verify_ms + step.timing.act_ms + step.timing.record_ms);
        }
        let Some(tally) = self.levels.iter_mut().find(|tally| tally.level == level) else { return Score::default() };
        tally.all.add(solved);
        tally.templates.entry(template.to_owned()).or_default().add(solved);
        tally.all
    }

    /// Returns the levels with their scores.
    pub fn scores(&self) -> impl Iterator<Item = (&str, Score)> {
        self.levels.iter().map(|tally| (tally.level.as_str(), tally.all))
    }

    /// Makes the report, as JSON with fixed keys.
    pub fn report(mut self, run: &RunInfo<'_>) -> Value {
        let level = |tally: &LevelTally| {
            let Score { episodes, solved } = tally.all;
            (tally.level.clone(), json!({ "episodes": episodes, "solved": solved, "interval": tally.all.interval() }))
        };
        let levels: Map<String, Value> = self.levels.iter().map(level).collect();
        let templates = self.levels.iter().flat_map(|tally| &tally.templates);
        let templates: Map<String, Value> = templates.map(|(id, score)| (id.clone(), json!(score))).collect();
        let RunInfo { suite, planner, generation, seconds } = run;
        json!({ "suite": suite, "planner": planner, "generation": generation, "levels": levels, "milestones": self.milestones,
            "invalid_actions": self.invalid_actions, "actions": self.actions, "model_ms_per_action_median": median(&mut self.model_ms),
            "overhead_ms_per_step_median": median(&mut self.overhead_ms), "failures": self.failures, "templates": templates, "seconds": seconds })
    }
}

/// The facts about the run as a whole that a report contains.
#[derive(Clone, Copy, Debug)]
pub struct RunInfo<'a> {
    /// The name of the suite.
    pub suite: &'a str,
    /// The planner, or `oracle`.
    pub planner: &'a str,
    /// The id of the generation, or `oracle`.
    pub generation: &'a str,
    /// The duration of the run in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use milepost_runtime::{Outcome, Stop};

    use super::*;
    use crate::failures::tests::episode;

    #[test]
    fn episodes_are_counted_by_level_and_template() {
        let mut tally: Tally<u64> = Tally::new(["easy", "long"], FailureConfig::default());
        let mut failed = episode(Stop::Answered, Some(false), &["click 1", "click 2"]);
        failed.steps[1].outcome = Outcome::failed("invalid: there is no element 2 on the page");
        (failed.steps[0].timing.decide_ms, failed.steps[1].timing.decide_ms) = (10.0, 30.0);
        failed.steps[0].timing.act_ms = 4.0;
        let solved = episode(Stop::Answered, Some(true), &["click 1"]);
        assert_eq!(tally.add("easy", "b", &failed, false, 1), Score { episodes: 1, solved: 0 });
        assert_eq!(tally.add("easy", "a", &solved, true, 2), Score { episodes: 2, solved: 1 });
        assert_eq!(tally.scores().map(|(level, score)| (level, score.episodes)).collect::<Vec<_>>(), [("easy", 2), ("long", 0)]);
        let report = tally.report(&RunInfo { suite: "bundled", planner: "adaplan", generation: "g", seconds: 1.5 });
        assert_eq!((&report["actions"], &report["invalid_actions"], &report["milestones"]), (&json!(3), &json!(1), &json!(3)));
        assert_eq!((&report["model_ms_per_action_median"], &report["overhead_ms_per_step_median"]), (&json!(10.0), &json!(0.0)));
        assert_eq!(report["levels"]["easy"]["interval"], json!(wilson(1, 2)));
        assert_eq!(report["templates"], json!({ "a": { "episodes": 1, "solved": 1 }, "b": { "episodes": 1, "solved": 0 } }));
        assert_eq!(report["failures"]["classes"]["wrong_termination"], 1);
        let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "suite planner generation levels milestones invalid_actions actions model_ms_per_action_median \
             overhead_ms_per_step_median failures templates seconds"
        );
    }
}
