//! What an experiment file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;

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
    /// Test tasks a level, the same for all arms and seeds.
    pub test: usize,
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
    /// Settings over the experiment's.
    #[serde(default)]
    pub settings: Value,
    /// Settings of single rounds over the arm's, by number.
    #[serde(default)]
    pub by_round: BTreeMap<usize, Value>,
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
        for (place, arm) in spec.arms.iter().enumerate() {
            let Some(after) = &arm.after else { continue };
            if !spec.arms[..place].iter().any(|other| other.name == *after && other.rounds < arm.rounds) {
                bail!("{}: arm {}: `after` must name an arm above it with fewer rounds than its own", path.display(), arm.name);
            }
        }
        Ok(spec)
    }

    /// The arm whose rounds are this one's first.
    pub fn before(&self, arm: &Arm) -> Option<&Arm> {
        self.arms.iter().find(|other| arm.after.as_deref() == Some(other.name.as_str()))
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
}
