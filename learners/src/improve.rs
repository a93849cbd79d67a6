//! The improvement loop: collect, update, gate, publish; written over a [`Workshop`], and whole again after a kill at any stage.
//!
//! A round ends with a [`Decision`] of its gate. What goes wrong with the candidate (nothing to learn from, a failed proof) ends the round
//! without one in service; what goes wrong with the workshop (disk, browser) ends the run, and `State` says where it goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::gate::{Decision, Gate, GateConfig, Look, Pair, Verdict};
use crate::policy::Report;
use crate::{Error, Result, files};

/// What a round does next.
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
    /// Nothing.
    Done,
}

/// One round, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub number: usize,
    /// What it does next.
    pub stage: Stage,
    /// The generation in service when it began.
    pub incumbent: String,
    /// Training episodes collected.
    pub episodes: usize,
    /// Of them, those that were solved.
    pub solved: usize,
    /// The candidate's generation.
    pub candidate: Option<String>,
    /// What its update said.
    pub update: Option<Report>,
    /// Validation outcomes so far.
    pub pairs: Vec<Pair>,
    /// The gate's decision.
    pub decision: Option<Decision>,
    /// Why there is no decision, or why a promoted candidate is not in service.
    pub note: Option<String>,
    /// What became of the candidate; `None` where there was none, and until that is written down in the registry too.
    #[serde(default)]
    pub outcome: Option<Verdict>,
    /// Seconds spent.
    pub seconds: f64,
}

/// A run, as it stands; kept in `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Rounds, the last one perhaps unfinished.
    pub rounds: Vec<Round>,
}

/// How long, and how strict.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Most rounds.
    pub rounds: usize,
    /// Most time, of this and earlier parts of the run together; checked before each stage.
    pub budget: Option<Duration>,
    /// The gate.
    pub gate: &'a GateConfig,
    /// The run's directory.
    pub directory: &'a Path,
}

impl Round {
    /// What became of its candidate; inconclusive where there is none, and while nothing is decided.
    pub fn verdict(&self) -> Verdict {
        // An older version wrote the gate's decision alone.
        let decided =
            || self.decision.as_ref().filter(|_| self.stage == Stage::Done && self.note.is_none()).map(|decision| decision.verdict);
        self.outcome.or_else(decided).unwrap_or(Verdict::Inconclusive)
    }

    /// Why that became of it; a round that a spent budget cut off says before which stage.
    pub fn reason(&self) -> Option<String> {
        let cut_off = || match self.stage {
            Stage::Collect => Some("its episodes were collected"),
            Stage::Update => Some("its candidate was trained"),
            Stage::Gate => Some("its gate had decided"),
            Stage::Publish => Some("its candidate was put into service"),
            Stage::Done => None,
        };
        let said = self.note.clone().or_else(|| Some(self.decision.as_ref()?.reason.clone()).filter(|_| self.stage == Stage::Done));
        said.or_else(|| Some(format!("the budget was spent before {}; `--resume` with a larger `--budget` goes on", cut_off()?)))
    }

    /// The same round, over: with this outcome of its candidate, where there is one.
    fn ended(&self, outcome: Verdict, note: Option<String>) -> Self {
        let outcome = self.candidate.is_some().then_some(outcome);
        Self { stage: Stage::Done, outcome, note, ..self.clone() }
    }
}

/// A candidate that cannot go on, or a workshop that cannot.
#[derive(Debug)]
pub enum Failure<E> {
    /// Nothing is wrong with the workshop; the round is over.
    Candidate(String),
    /// The run cannot go on.
    Workshop(E),
}

/// Does the work of the stages. Each is called again from its beginning when a kill interrupted it, and may find what it left.
pub trait Workshop {
    /// What ends a run.
    type Error: From<Error>;
    /// Takes up what serves now, which may have changed since the last round; its generation's id.
    fn take_up(&mut self) -> impl Future<Output = std::result::Result<String, Self::Error>>;
    /// Plays training tasks; says how many, and how many of them were solved.
    fn collect(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(usize, usize), Failure<Self::Error>>>;
    /// Trains a candidate; its generation, and its report.
    fn update(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(String, Report), Failure<Self::Error>>>;
    /// Plays so many more validation tasks with both sides.
    fn validate(&mut self, round: &Round, tasks: usize) -> impl Future<Output = std::result::Result<Vec<Pair>, Failure<Self::Error>>>;
    /// Proves the candidate and puts it into service.
    fn publish(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(), Failure<Self::Error>>>;
    /// Writes down what became of a candidate that is not put into service: the round's [`Round::outcome`]. It may be called again for what it
    /// has written already.
    fn set_aside(&mut self, round: &Round) -> impl Future<Output = std::result::Result<(), Self::Error>>;
    /// Why the round cannot go on to a promotion, though nothing is wrong with its candidate: another generation serves than the one that it is
    /// compared with, or a person has decided about the candidate meanwhile.
    fn overtaken(&self, round: &Round) -> impl Future<Output = std::result::Result<Option<String>, Self::Error>>;
    /// Tells a person.
    fn tell(&mut self, round: &Round);
}

impl State {
    /// The state in a run's directory; a fresh one where there is none.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("state.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(Error::json(&path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// A run whose first round has its candidate already, and takes it to the gate.
    pub fn with_candidate(incumbent: String, candidate: String) -> Self {
        let round = Round { number: 1, stage: Stage::Gate, incumbent, candidate: Some(candidate), ..Round::default() };
        Self { rounds: vec![round] }
    }

    /// Writes the state down; [`run`] does so after every stage.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("state.json");
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        files::replace(&path, serde_json::to_string_pretty(self).map_err(Error::json(&path))?.as_bytes())
    }

    fn seconds(&self) -> f64 {
        self.rounds.iter().map(|round| round.seconds).sum()
    }
}

/// Runs rounds until they or the budget are spent.
pub async fn run<W: Workshop>(workshop: &mut W, plan: &Plan<'_>) -> std::result::Result<State, W::Error> {
    let mut state = State::load(plan.directory)?;
    loop {
        let spent = plan.budget.is_some_and(|budget| state.seconds() >= budget.as_secs_f64());
        if spent || state.rounds.last().is_none_or(|round| round.stage == Stage::Done) {
            if spent || state.rounds.len() >= plan.rounds {
                return Ok(state);
            }
            let number = state.rounds.len() + 1;
            state.rounds.push(Round { number, incumbent: workshop.take_up().await?, ..Round::default() });
        }
        let Some(round) = state.rounds.last_mut() else { return Ok(state) };
        let clock = Instant::now();
        let outcome = go_on(workshop, round, plan.gate).await;
        round.seconds += clock.elapsed().as_secs_f64();
        if let Err(error) = outcome {
            state.save(plan.directory)?;
            return Err(error);
        }
        workshop.tell(round);
        state.save(plan.directory)?;
    }
}

/// One stage, or the end of a round that cannot have another. On an error the round stands where it did before the step that failed.
async fn go_on<W: Workshop>(workshop: &mut W, round: &mut Round, gate: &GateConfig) -> std::result::Result<(), W::Error> {
    if let Some(note) = workshop.overtaken(round).await? {
        return end(workshop, round, Verdict::Inconclusive, Some(note)).await;
    }
    match stage(workshop, round, gate).await {
        Ok(()) => Ok(()),
        Err(Failure::Candidate(note)) => end(workshop, round, Verdict::Quarantine, Some(note)).await,
        Err(Failure::Workshop(error)) => Err(error),
    }
}

/// Ends a round without a promotion: it is over once that is written down, so that a kill or an error in between lets it be written again.
async fn end<W: Workshop>(
    workshop: &mut W,
    round: &mut Round,
    outcome: Verdict,
    note: Option<String>,
) -> std::result::Result<(), W::Error> {
    let ended = round.ended(outcome, note);
    workshop.set_aside(&ended).await?;
    *round = ended;
    Ok(())
}

async fn stage<W: Workshop>(workshop: &mut W, round: &mut Round, gate: &GateConfig) -> std::result::Result<(), Failure<W::Error>> {
    match round.stage {
        Stage::Collect => {
            (round.episodes, round.solved) = workshop.collect(round).await?;
            round.stage = Stage::Update;
        }
        Stage::Update => {
            let (candidate, report) = workshop.update(round).await?;
            (round.candidate, round.update) = (Some(candidate), Some(report));
            round.stage = Stage::Gate;
        }
        Stage::Gate => look(workshop, round, gate).await?,
        Stage::Publish => {
            workshop.publish(round).await?;
            *round = round.ended(Verdict::Promote, None);
        }
        Stage::Done => {}
    }
    Ok(())
}

/// One look of the gate: the tasks that it adds, and what it says of all so far.
async fn look<W: Workshop>(workshop: &mut W, round: &mut Round, config: &GateConfig) -> std::result::Result<(), Failure<W::Error>> {
    let of_gate = |error| Failure::Workshop(W::Error::from(error));
    // Decided already, where the end of the round could not be written down.
    let mut decision = decided(&round.pairs, config).map_err(of_gate)?;
    if decision.is_none() {
        let pairs = workshop.validate(round, config.tasks_per_look).await?;
        round.pairs.extend(pairs);
        decision = decided(&round.pairs, config).map_err(of_gate)?;
    }
    let Some(decision) = decision else { return Ok(()) };
    let verdict = decision.verdict;
    round.decision = Some(decision);
    match verdict {
        Verdict::Promote => round.stage = Stage::Publish,
        Verdict::Quarantine | Verdict::Inconclusive => end(workshop, round, verdict, None).await.map_err(Failure::Workshop)?,
    }
    Ok(())
}

/// What a gate says of these pairs. Its looks are replayed from them: the error spent depends on nothing else.
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
        Self::Workshop(error)
    }
}
