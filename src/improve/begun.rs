//! What a run was begun with, so that it can go on the same.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use milepost_learners::files;
use milepost_learners::gate::GateConfig;
use milepost_runtime::Error;
use serde::{Deserialize, Serialize};

use super::config::Recipe;
use crate::cli::{ImproveArgs, PlaceArg};
use crate::config::Config;

/// What a run was begun with, beside what only the configuration says; its directory keeps this for `--resume`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// How a round learns.
    pub recipe: Recipe,
    /// What is learned from.
    pub suite: String,
    /// The adapter that the first round takes to the gate, in the place of training one.
    #[serde(default)]
    pub candidate: Option<String>,
    /// Rounds.
    pub rounds: usize,
    /// Most time.
    pub budget: Option<Duration>,
    /// Test tasks with which each generation is measured again.
    pub remeasure: usize,
    /// Where episodes run.
    pub environment: PlaceArg,
    /// What lets a candidate through: looks of two gates cannot be added up.
    pub gate: GateConfig,
}

/// The file in a run's directory that says what it was begun with.
const BEGUN: &str = "run.json";

impl Begun {
    /// What the command line says; where it is silent, the configuration or the default.
    pub fn new(args: &ImproveArgs, config: &Config) -> Self {
        Self {
            recipe: args.recipe.unwrap_or(config.improve.recipe),
            suite: args.suite.clone().unwrap_or_else(|| "bundled".into()),
            candidate: args.candidate.clone(),
            rounds: args.rounds.unwrap_or(1),
            budget: args.budget,
            remeasure: args.remeasure.unwrap_or(config.improve.remeasure),
            environment: args.environment.unwrap_or(PlaceArg::Browser),
            gate: config.improve.gate.clone(),
        }
    }

    /// What the run in this directory was begun with; its budget may be said anew, since no round depends on it.
    ///
    /// # Errors
    /// A command line that says otherwise.
    pub fn read(directory: &Path, args: &ImproveArgs, config: &Config) -> Result<Self> {
        let path = directory.join(BEGUN);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // It was killed before it wrote anything down.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(args, config)),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let begun: Self = serde_json::from_str(&text).with_context(|| format!("{} is damaged or of another version", path.display()))?;
        let numbers = [("rounds", args.rounds, begun.rounds), ("remeasure", args.remeasure, begun.remeasure)];
        let numbers = numbers.map(|(key, asked, begun)| (key, asked.map(|number| number.to_string()), begun.to_string()));
        let words = [
            ("recipe", args.recipe.map(|recipe| recipe.word().to_owned()), begun.recipe.word().to_owned()),
            ("suite", args.suite.clone(), begun.suite.clone()),
            ("environment", args.environment.map(word), word(begun.environment)),
        ];
        for (key, asked, begun) in words.into_iter().chain(numbers) {
            if let Some(asked) = asked.filter(|asked| *asked != begun) {
                let fix = "leave the option out, or leave out --resume to begin another run";
                bail!(Error::BadInput(format!("`--{key} {asked}`: {} was begun with {key} {begun}; {fix}", directory.display())));
            }
        }
        if begun.gate != config.improve.gate {
            tracing::warn!(run = %directory.display(), "it goes on with the gate that it was begun with, not with that of the configuration");
        }
        Ok(Self { budget: args.budget.or(begun.budget), ..begun })
    }

    /// Writes it into the run's directory.
    ///
    /// # Errors
    /// A disk that takes no more.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(files::replace(&directory.join(BEGUN), &serde_json::to_vec_pretty(self)?)?)
    }

    /// The configuration of this run.
    ///
    /// # Errors
    /// A recipe that asks for more than its episodes tell.
    pub fn over(&self, config: &Config) -> Result<Config> {
        let mut config = config.clone();
        (config.improve.recipe, config.improve.remeasure, config.improve.gate) = (self.recipe, self.remeasure, self.gate.clone());
        if self.suite != "own" {
            return Ok(config);
        }
        if self.recipe.needs_the_suite() {
            bail!(Error::BadInput(format!(
                "`--suite own` knows the outcome of an episode alone, and the recipe {} asks for more; use outcome, gigpo, successes or single_turn",
                self.recipe.word()
            )));
        }
        if let Some(key) = config.improve.phase(1)?.rewards.needs_the_suite() {
            bail!(Error::BadInput(format!(
                "improve.rewards.{key}: only the bundled suite knows what it asks for; remove the key, or leave out `--suite own`"
            )));
        }
        Ok(config)
    }
}

fn word(environment: PlaceArg) -> String {
    match environment {
        PlaceArg::Browser => "browser".into(),
        PlaceArg::Plain => "plain".into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> ImproveArgs {
        let words = ["milepost", "improve"].into_iter().chain(line.split_whitespace());
        let Command::Improve(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{line} is no improvement") };
        args
    }

    fn resumed(directory: &Path, line: &str, config: &Config) -> Result<Begun> {
        Begun::read(directory, &args(&format!("--resume {line}")), config)
    }

    #[test]
    fn a_run_goes_on_as_it_was_begun() {
        let (directory, mut config) = (tempfile::tempdir().unwrap(), Config::default());
        let line = "--recipe mira --rounds 4 --environment plain --budget 2h --remeasure 7";
        let begun = Begun::new(&args(line), &config);
        begun.write(directory.path()).unwrap();
        config.improve.gate.looks += 1;
        assert_eq!(resumed(directory.path(), "", &config).unwrap(), begun);
        assert_eq!(resumed(directory.path(), line, &config).unwrap(), begun);
        let over = begun.over(&config).unwrap().improve;
        assert_eq!((over.recipe, over.remeasure, over.gate), (Recipe::Mira, 7, begun.gate.clone()));
        let longer = resumed(directory.path(), "--budget 3h", &config).unwrap();
        assert_eq!(longer, Begun { budget: Some(Duration::from_secs(3 * 3600)), ..begun });
    }

    #[test]
    fn a_command_line_that_contradicts_the_run_is_bad_input_with_both_values() {
        let (directory, config) = (tempfile::tempdir().unwrap(), Config::default());
        Begun::new(&args("--recipe mira --rounds 4"), &config).write(directory.path()).unwrap();
        for (asked, begun) in
            [("--recipe outcome", "mira"), ("--rounds 5", "4"), ("--suite own", "bundled"), ("--environment plain", "browser")]
        {
            let error = resumed(directory.path(), asked, &config).unwrap_err();
            assert!(matches!(error.downcast_ref::<Error>(), Some(Error::BadInput(_))), "{error}");
            let said = error.to_string();
            assert!(said.contains(asked) && said.contains(begun) && said.contains("--resume"), "{said}");
        }
    }

    #[test]
    fn own_tasks_are_rewarded_for_what_they_tell_and_for_nothing_that_the_suite_alone_knows() {
        let over = |rewards: &str| {
            let mut config = Config::default();
            config.improve.rewards = serde_json::from_str(rewards).unwrap();
            Begun::new(&args("--suite own --recipe gigpo"), &config).over(&config)
        };
        assert!(over(r#"{"error": 0.2, "repetition": 0.1, "malformed": -1.0}"#).is_ok());
        let problem = over(r#"{"credit": 0.4}"#).unwrap_err().to_string();
        assert!(problem.contains("improve.rewards.credit") && problem.contains("--suite own"), "{problem}");
    }

    #[test]
    fn a_run_that_was_killed_before_it_wrote_anything_is_what_the_command_line_says() {
        let (directory, config) = (tempfile::tempdir().unwrap(), Config::default());
        assert_eq!(resumed(directory.path(), "--rounds 3", &config).unwrap(), Begun::new(&args("--rounds 3"), &config));
    }
}
