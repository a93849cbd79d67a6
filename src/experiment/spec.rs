//! What an experiment file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use milepost_learners::rewards::RewardConfig;
use milepost_runtime::Split;
use milepost_suites::Template;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::improve::config::{ImproveConfig, Phase};
use crate::improve::tasks::templates;

/// An experiment file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Names the results.
    pub name: String,
    /// The claim that it tests, in words.
    pub claim: String,
    /// Directory of the model that every arm starts from.
    pub start: PathBuf,
    /// Levels of the test tasks, each played and reported apart.
    pub levels: Vec<String>,
    /// Templates of these levels, for training and tests; empty for all.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Test tasks a level, the same for all arms and seeds.
    pub test: usize,
    /// Of the test tasks of a level, in the states of how many experts the arms are asked as well (accuracy in expert states, 2509.20616).
    #[serde(default)]
    pub expert_states: usize,
    /// What the test tasks are drawn from; constants are chosen on `validation`, and what is reported is measured on `test`.
    #[serde(default = "test")]
    pub split: Split,
    /// Training seeds.
    pub seeds: Vec<u64>,
    /// Settings of all arms, over the defaults of the configuration.
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
    /// Rounds of training without a gate; 0 measures the start.
    #[serde(default)]
    pub rounds: usize,
    /// An arm above, whose rounds are this one's first rounds: what both do alike is done once.
    #[serde(default)]
    pub after: Option<String>,
    /// An arm that it is compared with, beside the first; that of `after` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// An arm above that plays the same first round: its episodes are taken over, and only what is learned from them differs.
    #[serde(default)]
    pub episodes_of: Option<String>,
    /// Settings over the experiment's.
    #[serde(default)]
    pub settings: Value,
    /// Settings of single rounds over the arm's, by number.
    #[serde(default)]
    pub by_round: BTreeMap<usize, Value>,
}

fn test() -> Split {
    Split::Test
}

impl Spec {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is missing or says something else than an experiment.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let spec: Self = serde_norway::from_str(&text).with_context(|| format!("{} is no experiment", path.display()))?;
        if spec.arms.is_empty() || spec.seeds.is_empty() || spec.levels.is_empty() || spec.test == 0 {
            bail!("{}: an experiment needs arms, seeds, levels and test tasks", path.display());
        }
        if spec.split == Split::Train {
            bail!("{}: `split: train` would measure on what was trained; use `validation` or `test`", path.display());
        }
        for level in &spec.levels {
            spec.templates(level).with_context(|| path.display().to_string())?;
        }
        for (place, arm) in spec.arms.iter().enumerate() {
            if let Some(other) = &arm.episodes_of {
                let Some(other) = spec.arms[..place].iter().find(|known| known.name == *other) else {
                    bail!("{}: arm {}: `episodes_of` must name an arm above it", path.display(), arm.name);
                };
                if arm.after.is_some() || arm.rounds == 0 || other.rounds == 0 || spec.playing(arm)? != spec.playing(other)? {
                    bail!("{}: arm {}: it does not play the first round of {}; remove `episodes_of`", path.display(), arm.name, other.name);
                }
            }
            if let Some(against) = arm.against.as_ref().filter(|against| spec.arms.iter().all(|other| other.name != **against)) {
                bail!("{}: arm {}: `against` must name an arm, and there is no {against}", path.display(), arm.name);
            }
            let Some(after) = &arm.after else { continue };
            if !spec.arms[..place].iter().any(|other| other.name == *after && (1..arm.rounds).contains(&other.rounds)) {
                bail!("{}: arm {}: `after` must name a trained arm above it with fewer rounds than its own", path.display(), arm.name);
            }
        }
        Ok(spec)
    }

    /// The templates of a level.
    ///
    /// # Errors
    /// A level without any.
    pub fn templates(&self, level: &str) -> Result<Vec<&'static Template>> {
        let mut found = templates(&self.levels, &self.templates)?;
        found.retain(|template| template.level.name() == level);
        if found.is_empty() {
            bail!("`templates` names none of the level {level}; remove the level, or name some");
        }
        Ok(found)
    }

    /// The arm whose rounds are this one's first.
    pub fn before(&self, arm: &Arm) -> Option<&Arm> {
        self.arms.iter().find(|other| arm.after.as_deref() == Some(other.name.as_str()))
    }

    /// The arm that this one is compared with beside the first.
    pub fn against(&self, arm: &Arm) -> Option<&Arm> {
        let named = arm.against.as_ref().or(arm.after.as_ref())?;
        self.arms.iter().find(|other| other.name == *named)
    }

    /// What decides an arm's episodes of the first round, and what they are worth.
    fn playing(&self, arm: &Arm) -> Result<(Config, RewardConfig, bool)> {
        let mut config = self.config(arm, 0, 1, Path::new(""))?;
        let Phase { rewards, given_plans, .. } = config.improve.phase(1)?;
        let plain = ImproveConfig::default();
        (config.improve.recipe, config.improve.update) = (plain.recipe, plain.update);
        (config.improve.stages, config.improve.imitation) = (plain.stages, plain.imitation);
        Ok((config, rewards, given_plans))
    }

    /// The settings of an arm with a seed in a round (0: before the first).
    ///
    /// # Errors
    /// Keys that there are none of.
    pub fn config(&self, arm: &Arm, seed: u64, round: usize, directory: &Path) -> Result<Config> {
        let mut value = serde_json::to_value(Config::default())?;
        let of_round = arm.by_round.get(&round).unwrap_or(&Value::Null);
        for over in [&self.settings, &arm.settings, of_round] {
            lay(&mut value, over);
        }
        let mut config: Config = serde_json::from_value(value).with_context(|| format!("arm {}: its settings are wrong", arm.name))?;
        config.local.model = self.start.display().to_string();
        config.episodes.directory = directory.to_owned();
        config.improve.seed = seed;
        config.improve.levels.clone_from(&self.levels);
        config.improve.templates.clone_from(&self.templates);
        Ok(config)
    }
}

/// Lays one JSON value over another: objects key by key, all else whole.
fn lay(under: &mut Value, over: &Value) {
    match (under, over) {
        (_, Value::Null) => {}
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lie_over_each_other_and_unknown_keys_are_refused() {
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
        let config = |arm: usize, round| spec.config(&spec.arms[arm], 7, round, Path::new("d"));
        assert_eq!(config(0, 0).unwrap().policy.temperature, 0.5);
        let second = config(1, 2).unwrap();
        assert_eq!((second.policy.planner.word(), second.policy.temperature, second.improve.tasks), ("react", 0.5, 3));
        assert_eq!((config(1, 1).unwrap().improve.tasks, second.improve.seed), (Config::default().improve.tasks, 7));
        assert!(format!("{:#}", config(2, 0).unwrap_err()).contains("planer"));
    }

    #[test]
    fn episodes_are_shared_by_arms_that_play_alike_only() {
        let check = |arms: &str, problem: Option<&str>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let head = "name: x\nclaim: y\nstart: models/seed\nlevels: [medium]\ntest: 10\nseeds: [1]\nsettings: {improve: {recipe: mira}}\narms:\n";
            std::fs::write(file.path(), format!("{head}- {{name: a, rounds: 1}}\n{arms}")).unwrap();
            match (Spec::load(file.path()), problem) {
                (Ok(_), None) => {}
                (found, problem) => {
                    let found = format!("{:#}", found.unwrap_err());
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
