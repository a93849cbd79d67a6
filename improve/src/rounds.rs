//! The improvement loop: collect, update, gate, publish. It drives a [`StageRunner`] and can be resumed after a kill at any stage.
//!
//! A round ends with a [`Decision`] of its gate. If something is wrong with the candidate (nothing to learn from, a failed proof), the round ends
//! without a new generation in service. If something is wrong with the run itself (disk, browser), the run ends, and [`State`] records where it
//! has to be resumed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use milepost_learners::files;
use milepost_learners::policy::Report;

use crate::error::{Error, Result, ResultExt};
use crate::gate::{Decision, Gate, GateConfig, Look, Pair, Verdict};

/// The next stage of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Play training tasks.
    #[default]
    Collect,
    /// Train a candidate.
    Update,
    /// Play validation tasks with candidate and incumbent.
    Gate,
    /// Prove the candidate and put it into service.
    Publish,
    /// Nothing: the round is over.
    Done,
}

/// The state of one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The number of the round, from 1.
    pub number: usize,
    /// The next stage.
    pub stage: Stage,
    /// The id of the generation that was in service when the round began.
    pub incumbent: String,
    /// The number of training episodes collected.
    pub episodes: usize,
    /// The number of solved episodes among them.
    pub solved: usize,
    /// The id of the candidate's generation.
    pub candidate: Option<String>,
    /// The report of the update.
    pub update: Option<Report>,
    /// The validation outcomes so far.
    pub pairs: Vec<Pair>,
    /// The gate's decision.
    pub decision: Option<Decision>,
    /// Why there is no decision, or why a promoted candidate is not in service.
    pub note: Option<String>,
    /// The outcome of the candidate; `None` if there was no candidate, and until the registry has recorded the outcome too.
    #[serde(default)]
    pub outcome: Option<Verdict>,
    /// The duration so far, in seconds.
    pub seconds: f64,
}

/// The state of a run, kept in `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The rounds; the last one may be unfinished.
    pub rounds: Vec<Round>,
}

/// The extent of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunPlan<'a> {
    /// The maximum number of rounds.
    pub rounds: usize,
    /// The time limit for this and earlier parts of the run together; it is checked before each stage.
    pub budget: Option<Duration>,
    /// The gate.
    pub gate: &'a GateConfig,
    /// The run's directory.
    pub directory: &'a Path,
}

impl Round {
    /// Returns the outcome of the candidate: inconclusive if there is none, and while nothing is decided.
    pub fn verdict(&self) -> Verdict {
        // An older version recorded only the gate's decision.
        let decided =
            || self.decision.as_ref().filter(|_| self.stage == Stage::Done && self.note.is_none()).map(|decision| decision.verdict);
        self.outcome.or_else(decided).unwrap_or(Verdict::Inconclusive)
    }

    /// Returns the reason for the verdict. For a round that the end of the budget interrupted, it names the stage that was not reached.
    pub fn reason(&self) -> Option<String> {
        let cut_off = || match self.stage {
            Stage::Collect => Some("its episodes were collected"),
            Stage::Update => Some("its candidate was trained"),
            Stage::Gate => Some("its gate had decided"),
            Stage::Publish => Some("its candidate was put into service"),
            Stage::Done => None,
        };
        let reason = self.note.clone().or_else(|| Some(self.decision.as_ref()?.reason.clone()).filter(|_| self.stage == Stage::Done));
        reason.or_else(|| Some(format!("the budget was spent before {}; `--resume` with a larger `--budget` goes on", cut_off()?)))
    }

    /// Returns this round as finished, with this outcome of its candidate if there is one.
    fn ended(&self, outcome: Verdict, note: Option<String>) -> Self {
        let outcome = self.candidate.is_some().then_some(outcome);
        Self { stage: Stage::Done, outcome, note, ..self.clone() }
    }
}

/// Why a stage failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// The candidate is at fault: the round is over, and the run continues.
    Candidate(String),
    /// The run cannot continue.
    Run(E),
}

/// Does the work of the stages. A stage that a kill interrupted is called again from its beginning, and may find files of the first attempt.
pub trait StageRunner {
    /// The error that ends a run.
    type Error: From<Error>;
    /// Brings the engine to what the registry says should serve, which may have changed since the last round; returns the generation's id.
    fn follow_registry(&mut self) -> impl Future<Output = std::result::Result<String, Self::Error>>;
    /// Plays training tasks; returns the number of episodes and the number of solved ones.
    fn collect(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(usize, usize), Failure<Self::Error>>>;
    /// Trains a candidate; returns its generation's id and its report.
    fn update(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(String, Report), Failure<Self::Error>>>;
    /// Plays `tasks` more validation tasks with candidate and incumbent.
    fn validate(&mut self, round: &Round, tasks: usize) -> impl Future<Output = std::result::Result<Vec<Pair>, Failure<Self::Error>>>;
    /// Proves the candidate and puts it into service.
    fn publish(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(), Failure<Self::Error>>>;
    /// Records the [`Round::outcome`] of a candidate that is not put into service. It may be called again for an outcome that is already
    /// recorded.
    fn record_outcome(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(), Self::Error>>;
    /// Returns the reason why the round cannot lead to a promotion although nothing is wrong with its candidate: the generation in service is not
    /// the one that the candidate is compared with, or a person has decided about the candidate meanwhile. Returns `None` if there is no such
    /// reason.
    fn overtaken(&self, round: &Round) -> impl Future<Output = std::result::Result<Option<String>, Self::Error>>;
    /// Reports the progress of the round to a person.
    fn report(&mut self, round: &Round);
}

impl State {
    /// Reads the state in a run's directory; returns a new one if there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("state.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Makes the state of a run whose first round takes an existing candidate to the gate.
    pub fn with_candidate(incumbent: String, candidate: String) -> Self {
        let round = Round { number: 1, stage: Stage::Gate, incumbent, candidate: Some(candidate), ..Round::default() };
        Self { rounds: vec![round] }
    }

    /// Writes the state; [`run`] does so after every stage.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("state.json");
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        Ok(files::replace(&path, serde_json::to_string_pretty(self)?.as_bytes())?)
    }

    fn seconds(&self) -> f64 {
        self.rounds.iter().map(|round| round.seconds).sum()
    }
}

/// Runs rounds until all are done or the budget is spent.
///
/// # Errors
/// A stage failed, and the candidate is not at fault.
pub async fn run<W: StageRunner>(runner: &mut W, plan: &RunPlan<'_>) -> std::result::Result<State, W::Error> {
    let mut state = State::load(plan.directory)?;
    loop {
        let spent = plan.budget.is_some_and(|budget| state.seconds() >= budget.as_secs_f64());
        if spent || state.rounds.last().is_none_or(|round| round.stage == Stage::Done) {
            if spent || state.rounds.len() >= plan.rounds {
                return Ok(state);
            }
            let number = state.rounds.len() + 1;
            state.rounds.push(Round { number, incumbent: runner.follow_registry().await?, ..Round::default() });
        }
        let Some(round) = state.rounds.last_mut() else { return Ok(state) };
        let clock = Instant::now();
        let outcome = advance(runner, round, plan.gate).await;
        round.seconds += clock.elapsed().as_secs_f64();
        if let Err(error) = outcome {
            state.save(plan.directory)?;
            return Err(error);
        }
        runner.report(round);
        state.save(plan.directory)?;
    }
}

/// Runs one stage, or ends a round that has been overtaken. After an error the round is in the state before the stage.
async fn advance<W: StageRunner>(runner: &mut W, round: &mut Round, gate: &GateConfig) -> std::result::Result<(), W::Error> {
    if let Some(note) = runner.overtaken(round).await? {
        return end(runner, round, Verdict::Inconclusive, Some(note)).await;
    }
    match stage(runner, round, gate).await {
        Ok(()) => Ok(()),
        Err(Failure::Candidate(note)) => end(runner, round, Verdict::Quarantine, Some(note)).await,
        Err(Failure::Run(error)) => Err(error),
    }
}

/// Ends a round without a promotion. The round is over only after the outcome has been recorded, so that the outcome is recorded again after a kill
/// or an error in between.
async fn end<W: StageRunner>(
    runner: &mut W,
    round: &mut Round,
    outcome: Verdict,
    note: Option<String>,
) -> std::result::Result<(), W::Error> {
    let ended = round.ended(outcome, note);
    runner.record_outcome(&ended).await?;
    *round = ended;
    Ok(())
}

/// Runs the round's next stage.
async fn stage<W: StageRunner>(runner: &mut W, round: &mut Round, gate: &GateConfig) -> std::result::Result<(), Failure<W::Error>> {
    match round.stage {
        Stage::Collect => {
            (round.episodes, round.solved) = runner.collect(round).await?;
            round.stage = Stage::Update;
        }
        Stage::Update => {
            let (candidate, report) = runner.update(round).await?;
            (round.candidate, round.update) = (Some(candidate), Some(report));
            round.stage = Stage::Gate;
        }
        Stage::Gate => look(runner, round, gate).await?,
        Stage::Publish => {
            runner.publish(round).await?;
            *round = round.ended(Verdict::Promote, None);
        }
        Stage::Done => {}
    }
    Ok(())
}

/// Takes one look of the gate: plays its tasks, and decides on all outcomes so far.
async fn look<W: StageRunner>(runner: &mut W, round: &mut Round, config: &GateConfig) -> std::result::Result<(), Failure<W::Error>> {
    let of_gate = |error| Failure::Run(W::Error::from(error));
    // The gate has already decided if only the end of the round could not be recorded.
    let mut decision = decided(&round.pairs, config).map_err(of_gate)?;
    if decision.is_none() {
        let pairs = runner.validate(round, config.tasks_per_look).await?;
        round.pairs.extend(pairs);
        decision = decided(&round.pairs, config).map_err(of_gate)?;
    }
    let Some(decision) = decision else { return Ok(()) };
    let verdict = decision.verdict;
    round.decision = Some(decision);
    match verdict {
        Verdict::Promote => round.stage = Stage::Publish,
        Verdict::Quarantine | Verdict::Inconclusive => end(runner, round, verdict, None).await.map_err(Failure::Run)?,
    }
    Ok(())
}

/// Returns the gate's decision on these pairs, if it decides. Its looks are replayed from the pairs, because the spent error depends on nothing
/// else.
fn decided(pairs: &[Pair], config: &GateConfig) -> Result<Option<Decision>> {
    let mut gate = Gate::new(config.clone())?;
    for pairs in pairs.chunks(config.tasks_per_look) {
        if let Look::Decided(decision) = gate.look(pairs)? {
            return Ok(Some(decision));
        }
    }
    Ok(None)
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Run(error)
    }
}
