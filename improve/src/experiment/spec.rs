//! Experiment files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use milepost_learners::rewards::RewardConfig;
use milepost_runtime::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::host::{ArmConfig, ExperimentHost};
use crate::config::{ImproveConfig, TrainingPhase};
use crate::error::{Error, Result, ResultExt};
use crate::host::Template;
use crate::tasks::select_templates;

/// An experiment file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The name of its results.
    pub name: String,
    /// The claim that it tests, in words.
    pub claim: String,
    /// The directory of the model that every arm starts from.
    pub start: PathBuf,
    /// The levels of the test tasks; each is played and reported separately.
    pub levels: Vec<String>,
    /// The templates of these levels, for training and tests; empty means all.
    #[serde(default)]
    pub templates: Vec<String>,
    /// The number of test tasks per level, the same for all arms and seeds.
    pub test: usize,
    /// The number of test tasks per level on which the arms are also asked in the states of the expert (accuracy in expert states, 2509.20616).
    #[serde(default)]
    pub expert_states: usize,
    /// The split that test tasks are drawn from: constants are chosen on `validation`, reported figures are measured on `test`.
    #[serde(default = "test_split")]
    pub split: Split,
    /// The training seeds.
    pub seeds: Vec<u64>,
    /// Settings of all arms, which override the defaults of the configuration.
    #[serde(default)]
    pub settings: Value,
    /// The arms; all others are compared with the first.
    pub arms: Vec<Arm>,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// The number of training rounds, which have no gate; 0 measures the model that all arms start from.
    #[serde(default)]
    pub rounds: usize,
    /// An earlier arm whose rounds are the first rounds of this one, so that common work is done once.
    #[serde(default)]
    pub after: Option<String>,
    /// An arm that this one is compared with besides the first; by default the arm of `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// An earlier arm that plays the same first round: its episodes are copied, and only the training on them differs.
    #[serde(default)]
    pub episodes_of: Option<String>,
    /// Settings that override those of the experiment.
    #[serde(default)]
    pub settings: Value,
    /// Settings of single rounds, by number, which override those of the arm.
    #[serde(default)]
    pub by_round: BTreeMap<usize, Value>,
}

fn test_split() -> Split {
    Split::Test
}

impl Spec {
    /// Reads an experiment's file.
    ///
    /// # Errors
    /// The file is missing, is not an experiment, or contradicts itself; the message names the file.
    pub fn load(path: &Path, host: &dyn ExperimentHost) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let spec: Self = serde_norway::from_str(&text).with_context(|| format!("{} is no experiment", path.display()))?;
        spec.check(host).with_context(|| path.display().to_string())?;
        Ok(spec)
    }

    /// Refuses an experiment that contradicts itself.
    fn check(&self, host: &dyn ExperimentHost) -> Result<()> {
        let refuse = |problem: String| Err(Error::Failed(problem));
        if self.arms.is_empty() || self.seeds.is_empty() || self.levels.is_empty() || self.test == 0 {
            return refuse("an experiment needs arms, seeds, levels and test tasks".into());
        }
        if self.split == Split::Train {
            return refuse("`split: train` would measure on what was trained; use `validation` or `test`".into());
        }
        for level in &self.levels {
            self.templates(level, host)?;
        }
        for (place, arm) in self.arms.iter().enumerate() {
            if let Some(other) = &arm.episodes_of {
                let Some(other) = self.arms[..place].iter().find(|known| known.name == *other) else {
                    return refuse(format!("arm {}: `episodes_of` must name an arm above it", arm.name));
                };
                let untrained = arm.after.is_some() || arm.rounds == 0 || other.rounds == 0;
                if untrained || self.first_round(arm, host)? != self.first_round(other, host)? {
                    return refuse(format!("arm {}: it does not play the first round of {}; remove `episodes_of`", arm.name, other.name));
                }
            }
            if let Some(against) = arm.against.as_ref().filter(|against| self.arms.iter().all(|other| other.name != **against)) {
                return refuse(format!("arm {}: `against` must name an arm, and there is no {against}", arm.name));
            }
            let Some(after) = &arm.after else { continue };
            if !self.arms[..place].iter().any(|other| other.name == *after && (1..arm.rounds).contains(&other.rounds)) {
                return refuse(format!("arm {}: `after` must name a trained arm above it with fewer rounds than its own", arm.name));
            }
        }
        Ok(())
    }

    /// Selects the templates of a level.
    ///
    /// # Errors
    /// The level has no template, or a template does not exist.
    pub fn templates(&self, level: &str, host: &dyn ExperimentHost) -> Result<Vec<Template>> {
        let mut found = select_templates(host.suite(), &self.levels, &self.templates)?;
        found.retain(|template| template.level == level);
        if found.is_empty() {
            return Err(Error::Failed(format!("`templates` names none of the level {level}; remove the level, or name some")));
        }
        Ok(found)
    }

    /// Returns the arm whose rounds are the first rounds of this one, if there is one.
    pub fn predecessor(&self, arm: &Arm) -> Option<&Arm> {
        self.arms.iter().find(|other| arm.after.as_deref() == Some(other.name.as_str()))
    }

    /// Returns the arm that this one is compared with besides the first, if there is one.
    pub fn against(&self, arm: &Arm) -> Option<&Arm> {
        let named = arm.against.as_ref().or(arm.after.as_ref())?;
        self.arms.iter().find(|other| other.name == *named)
    }

    /// Returns everything that the episodes of an arm's first round, and their rewards, depend on.
    fn first_round(&self, arm: &Arm, host: &dyn ExperimentHost) -> Result<(Value, RewardConfig, bool)> {
        let config = self.config(arm, 0, 1, Path::new(""), host)?;
        let TrainingPhase { rewards, given_plans, .. } = config.improve.phase(1)?;
        // The episodes do not depend on how the arm is trained on them.
        let plain = serde_json::to_value(ImproveConfig::default())?;
        let mut settings = config.settings;
        for key in ["recipe", "update", "stages", "imitation"] {
            settings["improve"][key] = plain[key].clone();
        }
        Ok((settings, rewards, given_plans))
    }

    /// Builds the settings of an arm with a training seed in a round; round 0 is before the first.
    ///
    /// # Errors
    /// A key does not exist, or its value is wrong.
    pub fn config(&self, arm: &Arm, seed: u64, round: usize, directory: &Path, host: &dyn ExperimentHost) -> Result<ArmConfig> {
        let mut settings = host.default_settings();
        let of_round = arm.by_round.get(&round).unwrap_or(&Value::Null);
        let own = json!({
            "local": { "model": self.start },
            "episodes": { "directory": directory },
            "improve": { "seed": seed, "levels": self.levels, "templates": self.templates },
        });
        for over in [&self.settings, &arm.settings, of_round, &own] {
            merge_settings(&mut settings, over);
        }
        host.config(settings).with_context(|| format!("arm {}: its settings are wrong", arm.name))
    }
}

/// Overrides one JSON value by another: objects key by key, everything else as a whole; null overrides nothing.
fn merge_settings(under: &mut Value, over: &Value) {
    match (under, over) {
        (_, Value::Null) => {}
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge_settings(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;

    #[test]
    fn settings_override_each_other_and_unknown_keys_are_refused() {
        let text = "
name: x
claim: y
start: models/seed
levels: [medium]
test: 10
seeds: [1]
settings: {policy: {temperature: 0.5}}
arms:
- {name: a}
- {name: b, after: a, rounds: 2, settings: {policy: {planner: react}}, by_round: {2: {improve: {tasks: 3}}}}
- {name: c, settings: {policy: {planer: react}}}
";
        let spec: Spec = serde_norway::from_str(text).unwrap();
        let config = |arm: usize, round| spec.config(&spec.arms[arm], 7, round, Path::new("d"), &TestHost);
        assert_eq!(config(0, 0).unwrap().settings["policy"]["temperature"], 0.5);
        let second = config(1, 2).unwrap();
        let policy = &second.settings["policy"];
        assert_eq!((&policy["planner"], &policy["temperature"], second.improve.tasks), (&"react".into(), &0.5.into(), 3));
        assert_eq!((&second.settings["local"]["model"], &second.settings["episodes"]["directory"]), (&"models/seed".into(), &"d".into()));
        assert_eq!((config(1, 1).unwrap().improve.tasks, second.improve.seed), (ImproveConfig::default().tasks, 7));
        assert!(config(2, 0).unwrap_err().with_causes().contains("planer"));
    }

    #[test]
    fn only_arms_with_the_same_first_round_share_episodes() {
        let check = |arms: &str, problem: Option<&str>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let head = "name: x\nclaim: y\nstart: models/seed\nlevels: [medium]\ntest: 10\nseeds: [1]\nsettings: {improve: {recipe: mira}}\narms:\n";
            std::fs::write(file.path(), format!("{head}- {{name: a, rounds: 1}}\n{arms}")).unwrap();
            match (Spec::load(file.path(), &TestHost), problem) {
                (Ok(_), None) => {}
                (found, problem) => {
                    let found = found.unwrap_err().with_causes();
                    assert!(problem.is_some_and(|problem| found.contains(problem)), "{found}");
                }
            }
        };
        check("- {name: b, rounds: 1, episodes_of: a, settings: {improve: {recipe: outcome, update: {lr: 0.1}}}}", None);
        check("- {name: b, rounds: 1, episodes_of: a, settings: {improve: {temperature: 0.1}}}", Some("does not play"));
        check("- {name: b, rounds: 1, episodes_of: a, settings: {improve: {recipe: rltr}}}", Some("does not play"));
        check("- {name: b, rounds: 1, episodes_of: c}", Some("an arm above"));
        check("- {name: s}\n- {name: b, rounds: 1, episodes_of: s}", Some("does not play"));
        check("- {name: b, rounds: 2, after: a}", None);
        check("- {name: s}\n- {name: b, rounds: 1, after: s}", Some("a trained arm"));
    }
}
