//! The stages of a round on a suite of tasks: playing, training in a child process, measuring, proving and publishing.

mod collected;
mod collecting;
mod expert_states;
mod own_tasks;
mod publishing;
mod training;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost_learners::files;
use milepost_learners::policy::Report;
use milepost_runtime::action::AnswerText;
use milepost_runtime::registry::{AdapterChoice, Record, sync_engine};
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, EpisodeStore, Generation, Split, SqliteStore};
use tokio_util::sync::CancellationToken;

pub use self::collected::COLLECTED;
use self::collected::{Collected, read_lines};
use crate::config::{ImproveConfig, Recipe, TrainingPhase};
use crate::error::{Error, Result, ResultExt};
use crate::gate::Pair;
use crate::host::{Assignment, EnvironmentKind, Host, LoadedModel, Played, PolicySampling, Template};
use crate::play::{Ended, OnEnd, ParallelPlayer};
use crate::rounds::{Failure, Round, StageRunner};
use crate::settings::LoopSettings;
use crate::tasks::measuring;
use crate::update::Rewarded;

/// The file in a round's directory that holds single calls.
pub const CALLS: &str = "calls.jsonl";
/// The file in a round's directory that names the generation that the round made.
pub const CANDIDATE: &str = "candidate";
/// The directory within a round's directory that holds its update.
const UPDATE: &str = "update";

/// The result of a stage: an error of the candidate ends the round, an error of the run ends the run.
type Outcome<T> = std::result::Result<T, Failure<Error>>;

/// Runs the stages of a round on a suite of tasks.
pub struct SuiteStages<'a> {
    /// The suite, the model loader, the prompts and the tools.
    pub host: Host,
    /// The model in service.
    pub model: Arc<dyn LoadedModel>,
    /// The settings of the run.
    pub settings: LoopSettings,
    /// The store that episodes are written to.
    pub store: &'a SqliteStore,
    /// The registry of generations.
    pub registry: DirectoryRegistry,
    /// The templates that are played.
    pub templates: Vec<Template>,
    /// Where episodes run.
    pub environment: EnvironmentKind,
    /// Whether the run learns from the user's own recorded episodes instead of playing training tasks.
    pub own_tasks: bool,
    /// The run's directory.
    pub directory: PathBuf,
    /// The number of rounds in earlier runs, whose gates have used up their validation tasks.
    pub earlier_rounds: usize,
    /// The token that cancels the run.
    pub cancel: CancellationToken,
    /// Reports the progress of a round to a person.
    pub report: fn(&Round),
}

impl SuiteStages<'_> {
    /// Returns the id of the generation in service.
    pub fn serving(&self) -> String {
        self.model.engine().generation().id()
    }

    fn config(&self) -> &ImproveConfig {
        &self.settings.improve
    }

    fn round_directory(&self, round: usize) -> PathBuf {
        round_directory(&self.directory, round)
    }

    fn phase(&self, round: usize) -> Result<TrainingPhase> {
        self.config().phase(round)
    }

    /// Returns how the policy samples at this temperature. RLTR's end-to-end baseline lets the executor write the answer.
    fn sampling(&self, temperature: f32) -> PolicySampling {
        let end_to_end = self.config().recipe == Recipe::RltrEndToEnd;
        PolicySampling { temperature, answer_by: end_to_end.then_some(AnswerText::Executor) }
    }

    /// Plays these assignments. Episodes that the environment or a person ended are played once more, because their results do not depend on the
    /// policy; [`Ended::ended_externally`] is set for those that were ended so twice.
    async fn play(
        &self,
        model: &dyn LoadedModel,
        temperature: f32,
        given_plans: bool,
        assignments: &[Assignment],
        on_end: OnEnd<'_>,
    ) -> Result<Vec<Ended>> {
        let player = ParallelPlayer {
            suite: &*self.host.suite,
            model,
            sampling: self.sampling(temperature),
            limits: self.settings.limits.clone(),
            store: self.store,
            environment: self.environment,
            given_plans,
            workers: self.config().workers,
            cancel: self.cancel.clone(),
        };
        let mut ended = self.play_once(&player, assignments, on_end).await?;
        let again: Vec<usize> = (0..ended.len()).filter(|index| ended[*index].ended_externally).collect();
        if !again.is_empty() {
            let repeated: Vec<Assignment> = again.iter().map(|index| assignments[*index].clone()).collect();
            let of_repeated = |at: usize, played: &Played| on_end(again[at], played);
            let repeated = self.play_once(&player, &repeated, &of_repeated).await?;
            again.iter().zip(repeated).for_each(|(index, one)| ended[*index] = one);
        }
        Ok(ended)
    }

    async fn play_once(&self, player: &ParallelPlayer<'_>, assignments: &[Assignment], on_end: OnEnd<'_>) -> Result<Vec<Ended>> {
        let ended = player.play(assignments, on_end).await?;
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(ended.into_iter().flatten().collect())
    }

    /// Measures a model on these tasks, greedily.
    ///
    /// # Errors
    /// The environment ended an episode twice.
    pub async fn measure(&self, model: &dyn LoadedModel, assignments: &[Assignment]) -> Result<Vec<Ended>> {
        let ended = self.play(model, 0.0, false, assignments, &|_, _| Ok(())).await?;
        if let Some(lost) = ended.iter().find(|one| one.ended_externally) {
            let problem = format!("episode {} was ended by its environment, twice; `milepost doctor` looks at the browser", lost.id);
            return Err(Error::Failed(problem));
        }
        Ok(ended)
    }

    /// Reads the episodes of a round that may be trained on according to the store, and only those of `generation` if it is given. The number of
    /// the others is logged.
    async fn trainable(&self, round: usize, generation: Option<String>) -> Result<Vec<Collected>> {
        let query = TrainingQuery { generation, ..TrainingQuery::default() };
        let allowed: BTreeSet<String> = self.store.trainable(&query).await?.into_iter().collect();
        let (usable, barred): (Vec<Collected>, Vec<Collected>) =
            read_lines(&self.round_directory(round))?.into_iter().partition(|one| allowed.contains(&one.id));
        if let Some(first) = barred.first() {
            let (episodes, of) = (barred.len(), barred.len() + usable.len());
            tracing::warn!(round, episodes, of, first = first.id, "left out: they may not be trained on");
        }
        Ok(usable)
    }

    /// Loads another generation beside the one in service.
    ///
    /// # Errors
    /// It cannot be loaded or proved.
    pub async fn load(&self, adapter: AdapterChoice) -> Result<Arc<dyn LoadedModel>> {
        self.host.models.load(adapter).await
    }
}

impl StageRunner for SuiteStages<'_> {
    type Error = Error;

    async fn follow_registry(&mut self) -> Result<String> {
        // A generation that the configuration names stays the incumbent, whichever generation the registry puts into service.
        if self.settings.adapter == AdapterChoice::Current
            && let Some(generation) = sync_engine(&self.registry, self.model.engine()).await?
        {
            tracing::info!(generation = generation.id(), "what serves was changed since the last round: this one goes on from it");
        }
        Ok(self.serving())
    }

    async fn collect(&mut self, round: &Round) -> Outcome<(usize, usize)> {
        let directory = self.round_directory(round.number);
        std::fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let chained = self.chained(round.number).await?;
        let actor = match &chained {
            Some(id) => self.load(AdapterChoice::Named(id.clone())).await?,
            None => self.model.clone(),
        };
        if self.config().recipe == Recipe::SingleTurn {
            return Ok(self.collect_expert_states(&*actor, round.number, &directory).await?);
        }
        if self.own_tasks {
            return Ok(self.collect_own_episodes(round.number, &directory).await?);
        }
        self.collect_episodes(&*actor, round.number, &directory).await
    }

    async fn update(&mut self, round: &Round) -> Outcome<(String, Report)> {
        let directory = self.round_directory(round.number);
        let chained = self.chained(round.number).await?;
        let collected = self.trainable(round.number, Some(chained.clone().unwrap_or_else(|| self.serving()))).await?;
        // A missing reward is not 0: such an episode is left out.
        let has_rewards = |one: &&Collected| !one.rewards.is_empty();
        let episodes = collected.iter().filter(has_rewards).map(rewarded).collect();
        let mut request = self.request(round, self.phase(round.number)?, chained, episodes).await?;
        if self.config().recipe == Recipe::Mira {
            for earlier in 1..round.number {
                let solved = self.trainable(earlier, None).await?;
                request.memory.extend(solved.iter().filter(has_rewards).filter(|one| one.solved).map(rewarded));
            }
        }
        let report = self.train(&request, &directory).await?;
        let record = self.registry.register(&request.adapter(), &self.model.engine().generation()).await.map_err(Error::from)?;
        files::replace(&directory.join(CANDIDATE), record.id.as_bytes()).map_err(Error::from)?;
        Ok((record.id, report))
    }

    async fn validate(&mut self, round: &Round, tasks: usize) -> Outcome<Vec<Pair>> {
        let candidate = round.candidate.as_deref().context("the round has no candidate")?;
        let first = (self.earlier_rounds + round.number - 1) * self.config().gate.max_tasks() + round.pairs.len();
        let assignments = measuring(&self.templates, Split::Validation, first, tasks);
        let other = match self.load(AdapterChoice::Named(candidate.into())).await {
            Ok(other) => other,
            Err(error) => return Err(self.attribute_failure(error).await),
        };
        let theirs = self.measure(&*other, &assignments).await?;
        let ours = self.measure(&*self.model, &assignments).await?;
        Ok(theirs.iter().zip(&ours).map(|(candidate, incumbent)| Pair::solved(candidate.solved, incumbent.solved)).collect())
    }

    async fn publish(&mut self, round: &Round) -> Outcome<()> {
        self.put_into_service(round).await
    }

    async fn record_outcome(&mut self, round: &Round) -> Result<()> {
        self.record_in_registry(round).await
    }

    async fn overtaken(&self, round: &Round) -> Result<Option<String>> {
        self.overtaken_by(round).await
    }

    fn report(&mut self, round: &Round) {
        (self.report)(round);
    }
}

/// Returns the directory in which a round keeps its files.
pub fn round_directory(directory: &Path, round: usize) -> PathBuf {
    directory.join(format!("round-{round}"))
}

/// Turns a collected episode into the form that an update takes.
fn rewarded(one: &Collected) -> Rewarded {
    let turns = one.rewards.iter().enumerate().filter(|(_, reward)| **reward != 0.0);
    Rewarded {
        id: one.id.clone(),
        group: one.group.clone(),
        reward: one.whole,
        turns: turns.map(|(turn, reward)| (turn as u32, *reward)).collect(),
        progress: one.progress.clone(),
    }
}

/// Returns the id of the base that a generation is an adapter for.
fn base_of(generation: &Generation) -> String {
    generation.base_model().id()
}

/// Returns the reason of a generation's last change of status.
fn last_reason(record: &Record) -> &str {
    record.history.last().map_or("", |change| change.reason.as_str())
}
