//! The settings that a run was started with. They are kept in its directory, so that `--resume` uses the same.

use std::path::Path;
use std::time::Duration;

use milepost_learners::files;
use serde::{Deserialize, Serialize};

use crate::config::Recipe;
use crate::error::{Error, Result, ResultExt};
use crate::gate::GateConfig;
use crate::host::EnvironmentKind;
use crate::settings::LoopSettings;

/// The suite name that stands for a user's own recorded tasks.
pub const OWN_TASKS: &str = "own";

/// The settings of the command line; `None` leaves a setting to the configuration or the default.
#[derive(Clone, Debug, Default)]
pub struct RunOverrides {
    /// The recipe by which a round learns.
    pub recipe: Option<Recipe>,
    /// The tasks that are learned from: `bundled` or `own`.
    pub suite: Option<String>,
    /// The adapter that the first round takes to the gate instead of training one.
    pub candidate: Option<String>,
    /// The number of rounds.
    pub rounds: Option<usize>,
    /// The time limit.
    pub budget: Option<Duration>,
    /// The number of test tasks with which each generation is measured again.
    pub remeasure: Option<usize>,
    /// Where episodes run.
    pub environment: Option<EnvironmentKind>,
}

/// The settings of a run that the command line can set, and the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// The recipe by which a round learns.
    pub recipe: Recipe,
    /// The tasks that are learned from.
    pub suite: String,
    /// The adapter that the first round takes to the gate instead of training one.
    #[serde(default)]
    pub candidate: Option<String>,
    /// The number of rounds.
    pub rounds: usize,
    /// The time limit.
    pub budget: Option<Duration>,
    /// The number of test tasks with which each generation is measured again.
    pub remeasure: usize,
    /// Where episodes run.
    pub environment: EnvironmentKind,
    /// The gate, which must not change within a run, because its error is spent over all its looks.
    pub gate: GateConfig,
}

/// The file in a run's directory that holds its settings.
const FILE: &str = "run.json";

impl RunSettings {
    /// Combines the command line with the configuration and the defaults.
    pub fn new(overrides: &RunOverrides, settings: &LoopSettings) -> Self {
        Self {
            recipe: overrides.recipe.unwrap_or(settings.improve.recipe),
            suite: overrides.suite.clone().unwrap_or_else(|| "bundled".into()),
            candidate: overrides.candidate.clone(),
            rounds: overrides.rounds.unwrap_or(1),
            budget: overrides.budget,
            remeasure: overrides.remeasure.unwrap_or(settings.improve.remeasure),
            environment: overrides.environment.unwrap_or(EnvironmentKind::Browser),
            gate: settings.improve.gate.clone(),
        }
    }

    /// Reads the settings of the run in this directory. The command line may change the budget, because no round depends on it.
    ///
    /// # Errors
    /// The file cannot be read, or the command line contradicts it.
    pub fn read(directory: &Path, overrides: &RunOverrides, settings: &LoopSettings) -> Result<Self> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // The run was killed before it wrote its settings.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(overrides, settings)),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let begun: Self = serde_json::from_str(&text).with_context(|| format!("{} is damaged or of another version", path.display()))?;
        begun.refuse_contradictions(directory, overrides)?;
        if begun.gate != settings.improve.gate {
            tracing::warn!(run = %directory.display(), "it goes on with the gate that it was begun with, not with that of the configuration");
        }
        Ok(Self { budget: overrides.budget.or(begun.budget), ..begun })
    }

    fn refuse_contradictions(&self, directory: &Path, overrides: &RunOverrides) -> Result<()> {
        let numbers = [("rounds", overrides.rounds, self.rounds), ("remeasure", overrides.remeasure, self.remeasure)];
        let numbers = numbers.map(|(key, asked, begun)| (key, asked.map(|number| number.to_string()), begun.to_string()));
        let words = [
            ("recipe", overrides.recipe.map(|recipe| recipe.word().to_owned()), self.recipe.word().to_owned()),
            ("suite", overrides.suite.clone(), self.suite.clone()),
            ("environment", overrides.environment.map(|kind| kind.word().to_owned()), self.environment.word().to_owned()),
        ];
        for (key, asked, begun) in words.into_iter().chain(numbers) {
            if let Some(asked) = asked.filter(|asked| *asked != begun) {
                let fix = "leave the option out, or leave out --resume to begin another run";
                return Err(Error::bad_input(format!("`--{key} {asked}`: {} was begun with {key} {begun}; {fix}", directory.display())));
            }
        }
        Ok(())
    }

    /// Writes the settings into the run's directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(files::replace(&directory.join(FILE), &serde_json::to_vec_pretty(self)?)?)
    }

    /// Returns whether the run learns from the user's own recorded tasks.
    pub fn learns_from_own_tasks(&self) -> bool {
        self.suite == OWN_TASKS
    }

    /// Returns the settings of the configuration, overridden by these.
    ///
    /// # Errors
    /// The recipe or a reward needs more than is known about a user's own tasks.
    pub fn apply_to(&self, settings: &LoopSettings) -> Result<LoopSettings> {
        let mut settings = settings.clone();
        (settings.improve.recipe, settings.improve.remeasure, settings.improve.gate) = (self.recipe, self.remeasure, self.gate.clone());
        if !self.learns_from_own_tasks() {
            return Ok(settings);
        }
        if self.recipe.needs_the_suite() {
            return Err(Error::bad_input(format!(
                "`--suite own` knows the outcome of an episode alone, and the recipe {} asks for more; use outcome, gigpo, successes or single_turn",
                self.recipe.word()
            )));
        }
        if let Some(key) = settings.improve.phase(1)?.rewards.needs_the_suite() {
            return Err(Error::bad_input(format!(
                "improve.rewards.{key}: only the bundled suite knows what it asks for; remove the key, or leave out `--suite own`"
            )));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use milepost_runtime::Limits;
    use milepost_runtime::registry::AdapterChoice;

    use super::*;
    use crate::config::ImproveConfig;
    use crate::settings::ModelLocation;

    fn settings() -> LoopSettings {
        LoopSettings {
            improve: ImproveConfig::default(),
            episodes: "data".into(),
            adapter: AdapterChoice::Current,
            base: Some("models/seed".into()),
            model_location: ModelLocation::Local,
            limits: Limits::default(),
        }
    }

    /// Returns the command line that the tests start their run with.
    fn first() -> RunOverrides {
        RunOverrides {
            recipe: Some(Recipe::Mira),
            rounds: Some(4),
            environment: Some(EnvironmentKind::Plain),
            budget: Some(Duration::from_secs(2 * 3600)),
            remeasure: Some(7),
            ..RunOverrides::default()
        }
    }

    #[test]
    fn a_resumed_run_keeps_its_settings() {
        let (directory, mut settings) = (tempfile::tempdir().unwrap(), settings());
        let begun = RunSettings::new(&first(), &settings);
        begun.write(directory.path()).unwrap();
        settings.improve.gate.looks += 1;
        let resumed = |overrides: &RunOverrides| RunSettings::read(directory.path(), overrides, &settings).unwrap();
        assert_eq!(resumed(&RunOverrides::default()), begun);
        assert_eq!(resumed(&first()), begun);
        let over = begun.apply_to(&settings).unwrap().improve;
        assert_eq!((over.recipe, over.remeasure, over.gate), (Recipe::Mira, 7, begun.gate.clone()));
        let longer = RunOverrides { budget: Some(Duration::from_secs(3 * 3600)), ..RunOverrides::default() };
        assert_eq!(resumed(&longer), RunSettings { budget: longer.budget, ..begun });
    }

    #[test]
    fn a_command_line_that_contradicts_the_run_is_bad_input_with_both_values() {
        let (directory, settings) = (tempfile::tempdir().unwrap(), settings());
        let first = RunOverrides { recipe: Some(Recipe::Mira), rounds: Some(4), ..RunOverrides::default() };
        RunSettings::new(&first, &settings).write(directory.path()).unwrap();
        let none = RunOverrides::default;
        for (overrides, asked, begun) in [
            (RunOverrides { recipe: Some(Recipe::Outcome), ..none() }, "--recipe outcome", "mira"),
            (RunOverrides { rounds: Some(5), ..none() }, "--rounds 5", "4"),
            (RunOverrides { suite: Some("own".into()), ..none() }, "--suite own", "bundled"),
            (RunOverrides { environment: Some(EnvironmentKind::Plain), ..none() }, "--environment plain", "browser"),
        ] {
            let error = RunSettings::read(directory.path(), &overrides, &settings).unwrap_err();
            assert!(matches!(error.runtime(), Some(milepost_runtime::Error::BadInput(_))), "{error}");
            let said = error.to_string();
            assert!(said.contains(asked) && said.contains(begun) && said.contains("--resume"), "{said}");
        }
    }

    #[test]
    fn rewards_that_need_the_suite_are_refused_for_own_tasks() {
        let own = RunOverrides { suite: Some("own".into()), recipe: Some(Recipe::Gigpo), ..RunOverrides::default() };
        let over = |rewards: &str| {
            let mut settings = settings();
            settings.improve.rewards = serde_json::from_str(rewards).unwrap();
            RunSettings::new(&own, &settings).apply_to(&settings)
        };
        assert!(over(r#"{"error": 0.2, "repetition": 0.1, "malformed": -1.0}"#).is_ok());
        let problem = over(r#"{"credit": 0.4}"#).unwrap_err().to_string();
        assert!(problem.contains("improve.rewards.credit") && problem.contains("--suite own"), "{problem}");
    }

    #[test]
    fn a_run_that_was_killed_before_it_wrote_its_settings_takes_those_of_the_command_line() {
        let (directory, settings) = (tempfile::tempdir().unwrap(), settings());
        let overrides = RunOverrides { rounds: Some(3), ..RunOverrides::default() };
        assert_eq!(RunSettings::read(directory.path(), &overrides, &settings).unwrap(), RunSettings::new(&overrides, &settings));
    }
}
