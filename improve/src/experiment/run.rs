//! Runs the arms that are not finished yet, and writes results, table and figure.

use std::path::{Path, PathBuf};

use milepost_learners::files;
use milepost_runtime::registry::AdapterChoice;
use milepost_runtime::{DirectoryRegistry, SqliteStore};
use tokio_util::sync::CancellationToken;

use super::figure;
use super::host::{ArmConfig, ExperimentHost};
use super::spec::{Arm, Spec};
use super::table::{Matched, Results, Tested, Trained};
use super::work::{
    Origin, TESTED, check_provenance, copy_arm, copy_episodes, is_tested, last_candidate, make_directory, matched_file, provenance,
    record_round, trained,
};
use crate::error::{Result, ResultExt};
use crate::host::EnvironmentKind;
use crate::rounds::{Failure, Round, StageRunner};
use crate::run::describe;
use crate::settings::LoopSettings;
use crate::stages::SuiteStages;
use crate::tasks::{measuring, select_templates};

/// The options of a run of an experiment.
pub struct ExperimentOptions {
    /// The directory for the work of all experiments.
    pub work: PathBuf,
    /// The directory for results.
    pub results: PathBuf,
    /// Where episodes run.
    pub environment: EnvironmentKind,
    /// The token that cancels the experiment.
    pub cancel: CancellationToken,
}

/// Runs every arm with every seed that is not finished, then writes `NAME.json`, `NAME.md` and `NAME.svg`.
///
/// # Errors
/// An arm cannot continue. Its measurements so far are kept, and the next call continues from them.
pub async fn run(spec: &Spec, options: &ExperimentOptions, host: &dyn ExperimentHost) -> Result<Results> {
    let work = options.work.join(&spec.name);
    std::fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
    let _alone = DirectoryRegistry::new(&work).lock_updater()?;
    let start = spec.config(&spec.arms[0], 0, 0, &work, host)?;
    let origin = Origin { model: host.start_generation(&start)?, environment: options.environment };
    for arm in &spec.arms {
        // Without training nothing depends on the seed, because all episodes are greedy.
        let seeds = if arm.rounds == 0 { &spec.seeds[..1] } else { &spec.seeds[..] };
        for seed in seeds {
            let directory = work.join(format!("{}-{seed}", arm.name));
            check_provenance(spec, arm, &directory, &origin)?;
            let one = ArmRun { spec, arm, seed: *seed, directory: &directory, options, host };
            let context = || format!("arm {} with seed {seed}", arm.name);
            if !is_tested(spec, &directory) {
                one.train_and_test(&origin).await.with_context(context)?;
            }
            if spec.expert_states > 0 && !directory.join(matched_file(spec)).is_file() {
                one.match_oracle().await.with_context(context)?;
            }
            eprintln!("{}: arm {}, seed {seed}: done", spec.name, arm.name);
            // An unfinished table is written into the work directory only.
            write(spec, &work, &work)?;
        }
    }
    write(spec, &work, &options.results)
}

/// One arm with one training seed.
struct ArmRun<'a> {
    spec: &'a Spec,
    arm: &'a Arm,
    seed: u64,
    directory: &'a Path,
    options: &'a ExperimentOptions,
    host: &'a dyn ExperimentHost,
}

impl ArmRun<'_> {
    /// Runs the arm's training rounds without a gate, then its test tasks.
    async fn train_and_test(&self, origin: &Origin) -> Result<()> {
        let Self { spec, arm, seed, directory, .. } = *self;
        let (mut serving, mut done) = (None, 0);
        let provenance = provenance(spec, arm, origin)?.to_string();
        if let Some(before) = spec.predecessor(arm) {
            serving = copy_arm(&directory.with_file_name(format!("{}-{seed}", before.name)), directory, &provenance, before.rounds)?;
            done = before.rounds;
        } else if let Some(other) = &arm.episodes_of {
            copy_episodes(&directory.with_file_name(format!("{other}-{seed}")), directory, &provenance)?;
        } else {
            make_directory(directory, &provenance, |_| Ok(()))?;
        }
        for number in done + 1..=arm.rounds {
            serving = self.train(number, serving).await?;
        }
        self.test(serving).await
    }

    /// Runs one training round on this generation; returns the generation that it ends with. A round that cannot train keeps the generation, which is
    /// a result and not an error.
    async fn train(&self, number: usize, mut serving: Option<String>) -> Result<Option<String>> {
        let (config, store) = self.open(number).await?;
        let mut stages = self.stages(&config, &store, serving.clone()).await?;
        let mut round = Round { number, incumbent: stages.serving(), ..Round::default() };
        (round.episodes, round.solved) = match stages.collect(&round).await {
            Ok(counts) => counts,
            Err(Failure::Candidate(_)) => Default::default(),
            Err(Failure::Run(error)) => return Err(error),
        };
        stages.report(&round);
        match stages.update(&round).await {
            Ok((candidate, report)) => {
                (round.candidate, round.update) = (Some(candidate.clone()), Some(report));
                serving = Some(candidate);
            }
            Err(Failure::Candidate(note)) => round.note = Some(note),
            Err(Failure::Run(error)) => return Err(error),
        }
        stages.report(&round);
        drop(stages);
        store.close().await;
        record_round(self.arm, self.seed, &round, self.directory)?;
        Ok(serving)
    }

    /// Plays the test tasks of each level, greedily.
    async fn test(&self, serving: Option<String>) -> Result<()> {
        let Self { spec, arm, seed, .. } = *self;
        let (config, store) = self.open(0).await?;
        let stages = self.stages(&config, &store, serving).await?;
        let mut lines = String::new();
        for level in &spec.levels {
            let assignments = measuring(&spec.templates(level, self.host)?, spec.split, 0, spec.test);
            for (task, ended) in stages.measure(&*stages.model, &assignments).await?.into_iter().enumerate() {
                let (solved, complete, actions) = (ended.solved, ended.complete, ended.actions);
                let tested = Tested { arm: arm.name.clone(), seed, level: level.clone(), task, solved, complete, actions };
                lines.push_str(&(serde_json::to_string(&tested)? + "\n"));
            }
        }
        drop(stages);
        // The store is closed, because another arm may copy its file.
        store.close().await;
        Ok(files::replace(&self.directory.join(TESTED), lines.as_bytes())?)
    }

    /// Measures how often the arm takes the oracle's action in the oracle's states, level by level.
    async fn match_oracle(&self) -> Result<()> {
        let Self { spec, arm, directory, .. } = *self;
        let (config, store) = self.open(0).await?;
        let stages = self.stages(&config, &store, last_candidate(directory, arm.rounds)).await?;
        let mut matched = Vec::new();
        for level in &spec.levels {
            let tasks = measuring(&spec.templates(level, self.host)?, spec.split, 0, spec.expert_states);
            let (right, all) = stages.match_oracle(tasks).await?;
            matched.push(Matched { arm: arm.name.clone(), level: level.clone(), right: right as u64, all: all as u64 });
        }
        drop(stages);
        store.close().await;
        Ok(files::replace(&directory.join(matched_file(spec)), &serde_json::to_vec(&matched)?)?)
    }

    /// Reads the settings of a round and opens the arm's store.
    async fn open(&self, round: usize) -> Result<(ArmConfig, SqliteStore)> {
        let config = self.spec.config(self.arm, self.seed, round, self.directory, self.host)?;
        Ok((config, SqliteStore::open(self.directory).await?))
    }

    /// Sets up the stages of the arm, with this generation in service.
    async fn stages<'s>(&self, config: &ArmConfig, store: &'s SqliteStore, serving: Option<String>) -> Result<SuiteStages<'s>> {
        let (host, settings) = self.host.open(config)?;
        let adapter = serving.map_or(AdapterChoice::None, AdapterChoice::Named);
        let LoopSettings { improve, .. } = &settings;
        Ok(SuiteStages {
            model: host.models.load(adapter).await?,
            templates: select_templates(&*host.suite, &improve.levels, &improve.templates)?,
            registry: DirectoryRegistry::new(settings.registry()),
            host,
            settings,
            store,
            environment: self.options.environment,
            own_tasks: false,
            directory: self.directory.to_owned(),
            earlier_rounds: 0,
            cancel: self.options.cancel.clone(),
            report: |round| eprintln!("{}", describe(round)),
        })
    }
}

/// Writes the results of all finished arms.
fn write(spec: &Spec, work: &Path, results: &Path) -> Result<Results> {
    let (mut tested, mut matched, mut rounds): (Vec<Tested>, Vec<Matched>, Vec<Trained>) = Default::default();
    for arm in &spec.arms {
        for seed in &spec.seeds {
            let directory = work.join(format!("{}-{seed}", arm.name));
            let Ok(text) = std::fs::read_to_string(directory.join(TESTED)) else { continue };
            tested.extend(text.lines().map(serde_json::from_str).collect::<Result<Vec<Tested>, serde_json::Error>>()?);
            rounds.extend(trained(&directory)?.into_iter().map(|one| Trained { arm: arm.name.clone(), ..one }));
            let Ok(text) = std::fs::read_to_string(directory.join(matched_file(spec))) else { continue };
            matched.extend(serde_json::from_str::<Vec<Matched>>(&text)?);
        }
    }
    let found = Results { trained: rounds, ..Results::of(spec, &tested, &matched) };
    std::fs::create_dir_all(results).with_context(|| format!("{} cannot be made", results.display()))?;
    let path = |ending: &str| results.join(format!("{}.{ending}", spec.name));
    let head = format!("# {}\n\n{}\n\n`milepost experiment experiments/{}.yaml`\n\n", spec.name, spec.claim, spec.name);
    for (path, text) in [
        (path("json"), serde_json::to_string_pretty(&found)?),
        (path("md"), format!("{head}{}", found.table())),
        (path("svg"), figure::draw(&found)),
    ] {
        files::replace(&path, text.as_bytes())?;
    }
    Ok(found)
}
