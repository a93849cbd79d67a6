//! The loop's stages on the bundled suite: plays, trains in a child process, measures, proves, publishes.

mod collected;
mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use milepost_learners::files;
use milepost_learners::gate::{Pair, Verdict};
use milepost_learners::improve::{Failure, Round, Stage, Workshop};
use milepost_learners::phases::{Past, Tally, TaskKey, Valued};
use milepost_learners::policy::Report;
use milepost_learners::rewards::{self, Reward, compose, disturbed, per_step};
use milepost_runtime::registry::{Figure, Occasion, Over, Record, Status, follow, read_probes};
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, EpisodeStore, Generation, Split, SqliteStore, Stop};
use milepost_suites::Template;
use tokio::sync::watch;

pub use self::collected::COLLECTED;
use self::collected::{Collected, open_lines, read_lines};
use super::config::{ImproveConfig, Phase, Recipe};
use super::field::{Assignment, Each, Ended, Field};
use super::tasks::{Counts, measuring, phased, training};
use super::update::{self, Rewarded};
use crate::cli::PlaceArg;
use crate::commands::suite::episode::Played;
use crate::config::{AdapterChoice, Config, EngineKind};
use crate::wiring::Mind;

/// The loop's hands.
pub struct SuiteWorkshop<'a> {
    /// The model in service.
    pub mind: Mind,
    /// All settings.
    pub config: &'a Config,
    /// Where episodes are written.
    pub store: &'a SqliteStore,
    /// The generations.
    pub registry: DirectoryRegistry,
    /// The templates that are played.
    pub templates: Vec<&'static Template>,
    /// Browser, or the plain reader.
    pub environment: PlaceArg,
    /// Whether it learns from a user's own episodes, as they are, and plays none.
    pub own: bool,
    /// The run's directory.
    pub directory: PathBuf,
    /// Rounds of the runs before this one: their gates played other validation tasks.
    pub gated: usize,
    /// Cancels.
    pub cancel: watch::Receiver<bool>,
    /// Whether a person reads along.
    pub verbose: bool,
}

type Outcome<T> = std::result::Result<T, Failure<anyhow::Error>>;

impl SuiteWorkshop<'_> {
    /// Id of the generation that plays.
    pub fn serving(&self) -> String {
        self.mind.engine.generation().id()
    }

    fn settings(&self) -> &ImproveConfig {
        &self.config.improve
    }

    fn place(&self, round: usize) -> PathBuf {
        round_directory(&self.directory, round)
    }

    fn phase(&self, round: usize) -> Result<Phase> {
        self.settings().phase(round)
    }

    /// Settings with which training episodes are played, or greedy ones with which a generation is measured.
    fn playing(&self, temperature: f32) -> Config {
        let mut config = self.config.clone();
        config.policy.temperature = temperature;
        if self.settings().recipe == Recipe::RltrEndToEnd {
            config.policy.answer_by = milepost_runtime::action::AnswerText::Executor;
        }
        config
    }

    /// Plays these, what the environment ended once more: it says nothing of the policy. [`Ended::disturbed`] tells what was ended so twice.
    async fn play(
        &self,
        mind: &Mind,
        config: &Config,
        given_plans: bool,
        assignments: &[Assignment],
        each: Each<'_>,
    ) -> Result<Vec<Ended>> {
        let (environment, workers, cancel) = (self.environment, self.settings().workers, self.cancel.clone());
        let field = Field { mind, config, store: self.store, environment, given_plans, workers, cancel };
        let mut ended = self.play_once(&field, assignments, each).await?;
        let again: Vec<usize> = (0..ended.len()).filter(|index| ended[*index].disturbed).collect();
        if !again.is_empty() {
            let repeated: Vec<Assignment> = again.iter().map(|index| assignments[*index]).collect();
            let of_repeated = |at: usize, played: &Played| each(again[at], played);
            let repeated = self.play_once(&field, &repeated, &of_repeated).await?;
            again.iter().zip(repeated).for_each(|(index, one)| ended[*index] = one);
        }
        Ok(ended)
    }

    async fn play_once(&self, field: &Field<'_>, assignments: &[Assignment], each: Each<'_>) -> Result<Vec<Ended>> {
        let ended = field.play(assignments, each).await?;
        if *self.cancel.borrow() {
            bail!(Cancelled);
        }
        Ok(ended.into_iter().flatten().collect())
    }

    /// What these rounds of this run know of each template.
    fn known(&self, rounds: std::ops::Range<usize>) -> Result<Counts> {
        let mut counts = Counts::new();
        for earlier in rounds {
            for one in read_lines(&self.place(earlier))? {
                let count = counts.entry(one.template).or_default();
                *count = [count[0] + usize::from(one.solved), count[1] + 1];
            }
        }
        Ok(counts)
    }

    /// What the last round failed at, with what its value critic thinks of it; nothing where it was not trained on. A template's tally is of the
    /// round that played it last: a weak beginning does not hide what is solved now.
    fn past(&self, round: usize) -> Result<Past> {
        let last = self.place(round - 1);
        let values =
            update::report(&last.join(UPDATE)).ok().and_then(|report| report.critics).map(|critics| critics.tasks).unwrap_or_default();
        let failed: BTreeSet<String> = read_lines(&last)?.into_iter().filter(|one| !one.solved).map(|one| one.group).collect();
        let valued = |group: String| {
            let (template, seed) = group.rsplit_once(' ')?;
            let task = TaskKey { template: template.to_owned(), seed: seed.parse().ok()? };
            Some(Valued { task, value: values.get(&group).copied()? })
        };
        let mut tallies = BTreeMap::new();
        for earlier in 1..round {
            tallies.extend(self.known(earlier..earlier + 1)?.into_iter().map(|(id, [solved, episodes])| (id, Tally { episodes, solved })));
        }
        Ok(Past { failed: failed.into_iter().filter_map(valued).collect(), tallies })
    }

    fn reward(&self, index: usize, assignment: &Assignment, played: &Played, phase: &Phase) -> Collected {
        let reward = compose(&played.episode, &played.verdicts, &phase.rewards);
        let (rewards, whole) = earned(&reward, &played.episode);
        let (template, group) = (assignment.template.id.to_owned(), assignment.task());
        let progress = progress(played);
        let id = played.episode.id.clone();
        Collected { index, id, template, group, solved: played.solved, progress, rewards, whole, terms: reward.terms }
    }

    /// Measures a model on these tasks, greedily.
    ///
    /// # Errors
    /// Episodes that the environment ended twice.
    pub async fn measure(&self, mind: &Mind, assignments: &[Assignment]) -> Result<Vec<Ended>> {
        let ended = self.play(mind, &self.playing(0.0), false, assignments, &|_, _| Ok(())).await?;
        if let Some(lost) = ended.iter().find(|one| one.disturbed) {
            bail!("episode {} was ended by its environment, twice; `milepost doctor` looks at the browser", lost.id);
        }
        Ok(ended)
    }

    /// Those of a round's episodes that the store lets into training: of one generation, where one is named. The others are counted in the log.
    async fn trainable(&self, round: usize, generation: Option<String>) -> Result<Vec<Collected>> {
        let query = TrainingQuery { generation, ..TrainingQuery::default() };
        let allowed: BTreeSet<String> = self.store.trainable(&query).await?.into_iter().collect();
        let (usable, barred): (Vec<Collected>, Vec<Collected>) =
            read_lines(&self.place(round))?.into_iter().partition(|one| allowed.contains(&one.id));
        if let Some(first) = barred.first() {
            let (episodes, of) = (barred.len(), barred.len() + usable.len());
            tracing::warn!(round, episodes, of, first = first.id, "left out: they may not be trained on");
        }
        Ok(usable)
    }

    /// A generation by itself, proved and not in service.
    pub async fn other(&self, adapter: AdapterChoice) -> Result<Mind> {
        Mind::load(&Config { adapter, ..self.config.clone() }).await
    }
}

/// Marks a run that a person stopped.
#[derive(Debug, thiserror::Error)]
#[error("cancelled; `milepost improve --resume` goes on where it stopped")]
pub struct Cancelled;

impl Workshop for SuiteWorkshop<'_> {
    type Error = anyhow::Error;

    async fn take_up(&mut self) -> Result<String> {
        // A generation that the configuration names is what it is compared with, whatever else serves.
        if self.config.adapter == AdapterChoice::Current
            && let Some(generation) = follow(&self.registry, &*self.mind.engine).await?
        {
            tracing::info!(generation = generation.id(), "what serves was changed since the last round: this one goes on from it");
        }
        Ok(self.serving())
    }

    async fn collect(&mut self, round: &Round) -> Outcome<(usize, usize)> {
        let directory = self.place(round.number);
        std::fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let chained = self.chained(round.number).await?;
        let actor = match &chained {
            Some(id) => &self.other(AdapterChoice::Named(id.clone())).await?,
            None => &self.mind,
        };
        let settings = self.settings();
        if settings.recipe == Recipe::SingleTurn {
            return Ok(self.expert_states(actor, round.number, &directory).await?);
        }
        if self.own {
            return Ok(self.own_episodes(round.number, &directory).await?);
        }
        let seed = settings.seed.wrapping_mul(1_000_003).wrapping_add(round.number as u64);
        let known = self.known(1..round.number)?;
        let all = match settings.recipe {
            Recipe::Mira if round.number > 1 => {
                phased(&self.templates, &settings.phases, &self.past(round.number)?, settings.tasks, settings.group, seed)?
            }
            _ => training(&self.templates, &known, settings.tasks, settings.group, seed),
        };
        let done: BTreeMap<usize, Collected> = read_lines(&directory)?.into_iter().map(|one| (one.index, one)).collect();
        let path = directory.join(COLLECTED);
        let file = Mutex::new(open_lines(&path)?);
        let (phase, failed) = (self.phase(round.number)?, Mutex::new(String::new()));
        let play = async |left: Vec<usize>, temperature: f32| {
            let assignments: Vec<Assignment> = left.iter().map(|index| all[*index]).collect();
            let note = |at: usize, played: &Played| {
                let stop = played.episode.stop.as_ref();
                if disturbed(stop) {
                    let reason = stop.and_then(Stop::reason).unwrap_or_default().to_owned();
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = reason;
                    return Ok(());
                }
                let one = self.reward(left[at], &assignments[at], played, &phase);
                // At once, so that a kill leaves no line that only lacks its end.
                let line = serde_json::to_string(&one)? + "\n";
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.write_all(line.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
            };
            let ended = self.play(actor, &self.playing(temperature), phase.given_plans, &assignments, &note).await?;
            let lost = ended.iter().filter(|one| one.disturbed).count();
            if lost > 0 {
                tracing::warn!(lost, of = ended.len(), "left out: the environment ended these episodes twice");
            }
            anyhow::Ok(())
        };
        let mut left: Vec<usize> = (0..all.len()).filter(|index| !done.contains_key(index)).collect();
        if settings.greedy_first {
            // The first of each group is greedy; where it solves the task, the others would say what is known.
            play(left.iter().copied().filter(|index| index % settings.group == 0).collect(), 0.0).await?;
            let solved: BTreeSet<usize> = read_lines(&directory)?
                .into_iter()
                .filter(|one| one.index % settings.group == 0 && one.solved)
                .map(|one| one.index)
                .collect();
            left.retain(|index| index % settings.group != 0 && !solved.contains(&(index - index % settings.group)));
        }
        play(left, settings.temperature).await?;
        let collected = self.trainable(round.number, None).await?;
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if collected.is_empty() && !failed.is_empty() {
            return Err(Failure::Workshop(anyhow::anyhow!("no training episode could be played: {failed}")));
        }
        Ok((collected.len(), collected.iter().filter(|one| one.solved).count()))
    }

    async fn update(&mut self, round: &Round) -> Outcome<(String, Report)> {
        let directory = self.place(round.number);
        let rewarded = |one: &Collected| {
            let turns = one.rewards.iter().enumerate().filter(|(_, reward)| **reward != 0.0);
            Rewarded {
                id: one.id.clone(),
                group: one.group.clone(),
                reward: one.whole,
                turns: turns.map(|(turn, reward)| (turn as u32, *reward)).collect(),
                progress: one.progress.clone(),
            }
        };
        let chained = self.chained(round.number).await?;
        let collected = self.trainable(round.number, Some(chained.clone().unwrap_or_else(|| self.serving()))).await?;
        // A reward that is missing is none: it is never 0.
        let told = |one: &&Collected| !one.rewards.is_empty();
        let episodes = collected.iter().filter(told).map(rewarded).collect();
        let mut request = self.request(round, self.phase(round.number)?, chained, episodes).await?;
        if self.settings().recipe == Recipe::Mira {
            for earlier in 1..round.number {
                request.memory.extend(self.trainable(earlier, None).await?.iter().filter(told).filter(|one| one.solved).map(rewarded));
            }
        }
        let report = self.train(&request, &directory).await?;
        let record = self.registry.register(&request.adapter(), &self.mind.engine.generation()).await.map_err(anyhow::Error::from)?;
        files::replace(&directory.join(CANDIDATE), record.id.as_bytes()).map_err(anyhow::Error::from)?;
        Ok((record.id, report))
    }

    async fn validate(&mut self, round: &Round, tasks: usize) -> Outcome<Vec<Pair>> {
        let candidate = round.candidate.as_deref().context("the round has no candidate")?;
        let first = (self.gated + round.number - 1) * self.settings().gate.max_tasks() + round.pairs.len();
        let assignments = measuring(&self.templates, Split::Validation, first, tasks);
        let other = match self.other(AdapterChoice::Named(candidate.into())).await {
            Ok(other) => other,
            Err(error) => return Err(self.at_fault(error).await),
        };
        let theirs = self.measure(&other, &assignments).await?;
        let ours = self.measure(&self.mind, &assignments).await?;
        Ok(theirs.iter().zip(&ours).map(|(candidate, incumbent)| Pair::solved(candidate.solved, incumbent.solved)).collect())
    }

    async fn publish(&mut self, round: &Round) -> Outcome<()> {
        let candidate = round.candidate.as_deref().context("the round has no candidate")?;
        let directory = self.registry.directory(candidate);
        let probes = read_probes(&directory).map_err(|error| Failure::Candidate(error.to_string()))?;
        let probes = probes.ok_or_else(|| Failure::Candidate(format!("{} has no probes.json", directory.display())))?;
        let record = self.registry.get(candidate).await.map_err(anyhow::Error::from)?;
        if let Some(record) = record.filter(|record| record.status == Status::Quarantined) {
            return Err(Failure::Candidate(format!("it was put into quarantine meanwhile: {}", last_words(&record))));
        }
        let before = self.mind.engine.generation();
        if before.id() != candidate
            && let Err(error) = self.mind.engine.swap(&directory, &probes).await
        {
            return Err(self.at_fault(error.into()).await);
        }
        // Whoever takes it up holds it to what the gate saw: that is there first.
        self.note(round, Status::Promoted).await?;
        let serves = self.registry.current(&before).await.map_err(anyhow::Error::from)?;
        if serves.is_none_or(|record| record.id != candidate) {
            let over = if round.incumbent == base_of(&before) { Over::Base } else { Over::Generation(&round.incumbent) };
            let reason = round.decision.as_ref().map_or_else(String::new, |decision| decision.reason.clone());
            // What came in between says nothing against the configuration.
            self.registry.promote(candidate, over, &reason).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    async fn set_aside(&mut self, round: &Round) -> Result<()> {
        let (Some(candidate), Some(outcome)) = (&round.candidate, round.outcome) else { return Ok(()) };
        let status = if outcome == Verdict::Quarantine { Status::Quarantined } else { Status::Inconclusive };
        self.note(round, status).await?;
        let record = self.registry.get(candidate).await?.with_context(|| format!("generation {candidate} is gone from the registry"))?;
        // Whoever found it good or bad is not contradicted by a gate that could not tell, and what is written already is not written twice.
        // What a person put into service meanwhile is that person's to take out again.
        let found = matches!(record.status, Status::Promoted | Status::Quarantined | Status::RolledBack);
        let stands = (status == Status::Inconclusive && found) || self.registry.serving()?.contains(candidate);
        if !stands && record.status != status {
            self.registry.set_status(candidate, status, &round.reason().unwrap_or_default()).await?;
        }
        Ok(())
    }

    async fn overtaken(&self, round: &Round) -> Result<Option<String>> {
        let now = self.mind.engine.generation();
        let candidate = round.candidate.as_deref();
        let other = |serves: &str| {
            let what = candidate.map_or_else(|| "the round".to_owned(), |candidate| format!("generation {candidate}"));
            let problem = format!("generation {serves} serves now, but {what} was begun against {}", round.incumbent);
            (serves != round.incumbent && Some(serves) != candidate).then_some(problem)
        };
        if let Some(problem) = other(&now.id()) {
            return Ok(Some(problem));
        }
        let record = match (candidate, round.stage) {
            (Some(candidate), Stage::Publish) => self.registry.get(candidate).await?,
            _ => None,
        };
        // Since its gate was written down: one that was rolled back long ago has been compared again.
        let gated = |record: &Record| {
            let reason = round.decision.as_ref().map(|decision| &decision.reason);
            let gates = record.figures.iter().rfind(|figure| figure.occasion == Occasion::Gate && Some(&figure.reason) == reason);
            gates.is_some_and(|gate| record.history.last().is_some_and(|change| change.at > gate.at))
        };
        if let Some(record) = record.filter(|record| record.status == Status::RolledBack && gated(record)) {
            let fix = format!("`milepost adapters promote {}` puts it back", record.id);
            return Ok(Some(format!("generation {} was taken out of service meanwhile: {}; {fix}", record.id, last_words(&record))));
        }
        // Who compares with another adapter than what serves hears of it when there is something to promote.
        if self.config.adapter != AdapterChoice::Current && round.stage != Stage::Publish {
            return Ok(None);
        }
        let serves = self.registry.current(&now).await?;
        Ok(other(&serves.map_or_else(|| base_of(&now), |record| record.id)))
    }

    fn tell(&mut self, round: &Round) {
        if self.verbose {
            eprintln!("{}", describe(round));
        }
    }
}

impl SuiteWorkshop<'_> {
    /// Whose fault it is that a candidate is not served. A failed proof is the candidate's. A server may only be away for a moment. Here, what serves
    /// is loaded in the candidate's place: where that is impossible too, the memory or the model's files are at fault.
    async fn at_fault(&self, error: anyhow::Error) -> Failure<anyhow::Error> {
        if matches!(error.downcast_ref(), Some(milepost_runtime::Error::Unproved(_))) {
            return Failure::Candidate(format!("{error:#}"));
        }
        if self.config.engine == EngineKind::Remote {
            return Failure::Workshop(error);
        }
        let serving = self.mind.engine.generation();
        let adapter = match serving.adapter {
            None => AdapterChoice::None,
            Some(_) if self.registry.directory(&serving.id()).is_dir() => AdapterChoice::Named(serving.id()),
            Some(_) => self.config.adapter.clone(),
        };
        match self.other(adapter).await {
            Ok(_) => Failure::Candidate(format!("{error:#}")),
            Err(too) => Failure::Workshop(error.context(format!("what serves cannot be loaded a second time either ({too:#})"))),
        }
    }

    /// Writes the gate's figures down beside the generation.
    async fn note(&self, round: &Round, status: Status) -> Result<()> {
        let (Some(candidate), Some(decision)) = (&round.candidate, &round.decision) else { return Ok(()) };
        let figure = Figure {
            occasion: Occasion::Gate,
            at: chrono::Utc::now(),
            candidate: decision.candidate,
            incumbent: Some(decision.incumbent),
            p: Some(decision.p),
            decision: Some(status),
            reason: decision.reason.clone(),
        };
        let record = self.registry.get(candidate).await?;
        // A later start writes the same at another time, and its text may round `p`.
        let same = |known: &Figure| Figure { at: figure.at, p: figure.p, ..known.clone() } == figure;
        if !record.is_some_and(|record| record.figures.iter().any(same)) {
            self.registry.measured(candidate, figure).await?;
        }
        Ok(())
    }
}

/// The id of the base that a generation is an adapter for, without one.
fn base_of(generation: &Generation) -> String {
    Generation { adapter: None, ..generation.clone() }.id()
}

/// Why a generation has its status.
fn last_words(record: &Record) -> &str {
    record.history.last().map_or("", |change| change.reason.as_str())
}

/// The file in a round's directory that holds single calls.
pub const CALLS: &str = "calls.jsonl";
/// The file of a round's directory that names the generation that it made.
pub const CANDIDATE: &str = "candidate";
const UPDATE: &str = "update";

/// Where a round keeps what it does.
pub fn round_directory(directory: &Path, round: usize) -> PathBuf {
    directory.join(format!("round-{round}"))
}

/// What an episode earned, by step and as a whole; no steps where a reward is missing.
fn earned(reward: &Reward, episode: &milepost_runtime::Episode) -> (Vec<f64>, f64) {
    match reward.total() {
        Some(_) => per_step(&reward.terms, episode.steps.len().max(1)),
        None => Default::default(),
    }
}

/// How much of a played task was done in each state, by the suite's reference milestones; empty where that is not known.
fn progress(played: &Played) -> Vec<f64> {
    let milestones = played.verdicts.milestones.as_ref();
    milestones.and_then(|milestones| rewards::progress(milestones, played.episode.steps.len(), played.solved)).unwrap_or_default()
}

/// One line about where a round stands.
fn describe(round: &Round) -> String {
    let number = round.number;
    match (&round.decision, &round.note, &round.update) {
        (_, Some(note), _) => format!("round {number}: no candidate in service: {note}"),
        (Some(decision), None, _) => format!("round {number}: {:?}: {}", decision.verdict, decision.reason),
        (None, None, Some(update)) if round.pairs.is_empty() => format!(
            "round {number}: trained on {} calls in {} steps ({} of {} groups said nothing), KL {:.4}",
            update.calls, update.steps, update.flat_groups, update.groups, update.kl
        ),
        (None, None, Some(_)) => format!("round {number}: {} validation tasks, not clear yet", round.pairs.len()),
        (None, None, None) => format!("round {number}: {} of {} training episodes solved", round.solved, round.episodes),
    }
}
