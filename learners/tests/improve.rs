//! The improvement loop with hands that do no work: what follows what, and what a kill at any moment leaves to be done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use milepost_learners::Error;
use milepost_learners::gate::{GateConfig, Pair, Verdict};
use milepost_learners::improve::{Failure, Plan, Round, Stage, State, Workshop, run};
use milepost_learners::policy::Report;

/// Nothing here ever waits.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a hand waits"),
    }
}

/// Candidates of the rounds: how often of ten each side solves, or why there is none.
type Script = Vec<Result<[usize; 2], &'static str>>;

struct Hands {
    script: Script,
    serving: String,
    /// What was done, in order.
    done: Vec<String>,
    /// Calls until the power fails.
    power: usize,
    /// How often the registry's disk is full before it is not.
    full: usize,
    /// At this stage of the first round another generation has come into service.
    overtaken: Option<Stage>,
    /// Why no candidate passes its proof.
    refuted: Option<&'static str>,
}

impl Hands {
    fn new(script: Script, power: usize) -> Self {
        Self { script, serving: "base".into(), done: Vec::new(), power, full: 0, overtaken: None, refuted: None }
    }

    fn work(&mut self, what: String) -> Result<(), Failure<Error>> {
        if self.power == 0 {
            return Err(Failure::Workshop(Error::Unhealthy("the power failed".into())));
        }
        self.power -= 1;
        self.done.push(what);
        Ok(())
    }
}

impl Workshop for Hands {
    type Error = Error;

    async fn take_up(&mut self) -> Result<String, Error> {
        Ok(self.serving.clone())
    }

    async fn collect(&mut self, round: &Round) -> Result<(usize, usize), Failure<Error>> {
        self.work(format!("collect {}", round.number))?;
        Ok((8, 4))
    }

    async fn update(&mut self, round: &Round) -> Result<(String, Report), Failure<Error>> {
        self.work(format!("update {}", round.number))?;
        match self.script[round.number - 1] {
            Ok(_) => Ok((format!("candidate {}", round.number), Report::default())),
            Err(reason) => Err(Failure::Candidate(reason.into())),
        }
    }

    async fn validate(&mut self, round: &Round, tasks: usize) -> Result<Vec<Pair>, Failure<Error>> {
        self.work(format!("validate {} from {}", round.number, round.pairs.len()))?;
        let [candidate, incumbent] = self.script[round.number - 1].unwrap();
        Ok((0..tasks).map(|task| Pair::solved(task % 10 < candidate, task % 10 < incumbent)).collect())
    }

    async fn publish(&mut self, round: &Round) -> Result<(), Failure<Error>> {
        self.work(format!("publish {}", round.number))?;
        if let Some(problem) = self.refuted {
            return Err(Failure::Candidate(problem.into()));
        }
        self.serving = round.candidate.clone().unwrap();
        Ok(())
    }

    async fn set_aside(&mut self, round: &Round) -> Result<(), Error> {
        if self.full > 0 {
            self.full -= 1;
            return Err(Error::Unhealthy("the disk is full".into()));
        }
        let outcome = round.outcome.map_or_else(String::new, |outcome| format!(" as {outcome:?}"));
        self.done.push(format!("set aside {}{outcome}", round.number));
        Ok(())
    }

    async fn overtaken(&self, round: &Round) -> Result<Option<String>, Error> {
        let note = || "other serves now, and candidate 1 was compared with base".to_owned();
        Ok((round.number == 1 && self.overtaken == Some(round.stage)).then(note))
    }

    fn tell(&mut self, _: &Round) {}
}

fn script() -> Script {
    vec![Ok([9, 4]), Err("nothing to learn from"), Ok([2, 9]), Ok([5, 5]), Ok([10, 9])]
}

fn gate() -> GateConfig {
    GateConfig { looks: 3, tasks_per_look: 20, ..GateConfig::default() }
}

fn play(hands: &mut Hands, directory: &std::path::Path, budget: Option<Duration>) -> Result<State, Error> {
    let gate = gate();
    finish(run(hands, &Plan { rounds: 5, budget, gate: &gate, directory }))
}

/// The state without its clocks.
fn timeless(mut state: State) -> State {
    state.rounds.iter_mut().for_each(|round| round.seconds = 0.0);
    state
}

#[test]
fn the_better_serve_the_worse_are_quarantined_and_rounds_without_a_candidate_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut hands = Hands::new(script(), usize::MAX);
    let state = play(&mut hands, directory.path(), None).unwrap();
    let verdicts: Vec<_> = state.rounds.iter().map(|round| round.decision.as_ref().map(|decision| decision.verdict)).collect();
    use Verdict::{Inconclusive, Promote, Quarantine};
    assert_eq!(verdicts[..4], [Some(Promote), None, Some(Quarantine), Some(Inconclusive)]);
    assert_eq!(state.rounds[1].note.as_deref(), Some("nothing to learn from"));
    let incumbents: Vec<&str> = state.rounds.iter().map(|round| &round.incumbent[..]).collect();
    assert_eq!(incumbents[..4], ["base", "candidate 1", "candidate 1", "candidate 1"]);
    let aside: Vec<_> = hands.done.iter().filter(|what| what.starts_with("set aside")).collect();
    assert_eq!(aside[..3], ["set aside 2", "set aside 3 as Quarantine", "set aside 4 as Inconclusive"]);
    let outcomes: Vec<_> = state.rounds.iter().map(|round| round.outcome).collect();
    assert_eq!(outcomes[..4], [Some(Promote), None, Some(Quarantine), Some(Inconclusive)]);
    assert!(state.rounds.iter().all(|round| round.reason().is_some()));
    let first: Vec<&str> = hands.done.iter().map(String::as_str).take(4).collect();
    assert_eq!(first, ["collect 1", "update 1", "validate 1 from 0", "publish 1"], "a clear win needs one look");
}

#[test]
fn a_run_that_dies_at_any_call_ends_as_one_that_did_not() {
    let whole = tempfile::tempdir().unwrap();
    let mut hands = Hands::new(script(), usize::MAX);
    let want = timeless(play(&mut hands, whole.path(), None).unwrap());
    let calls = hands.done.iter().filter(|what| !what.starts_with("set aside")).count();
    for power in 0..calls {
        let directory = tempfile::tempdir().unwrap();
        let mut first = Hands::new(script(), power);
        play(&mut first, directory.path(), None).unwrap_err();
        let mut second = Hands { serving: first.serving.clone(), ..Hands::new(script(), usize::MAX) };
        let got = timeless(play(&mut second, directory.path(), None).unwrap());
        assert_eq!(got, want, "died after {power} calls");
        assert_eq!([first.done, second.done].concat(), hands.done, "nothing is done twice or left out after {power} calls");
    }
}

#[test]
fn a_spent_budget_begins_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut hands = Hands::new(script(), usize::MAX);
    assert!(play(&mut hands, directory.path(), Some(Duration::ZERO)).unwrap().rounds.is_empty());
    let state = play(&mut hands, directory.path(), Some(Duration::from_secs(600))).unwrap();
    assert!(state.rounds.len() == 5 && state.rounds.iter().all(|round| round.stage == Stage::Done));
}

#[test]
fn what_could_not_be_set_aside_is_set_aside_by_the_next_start() {
    let whole = tempfile::tempdir().unwrap();
    let mut hands = Hands::new(script(), usize::MAX);
    let want = timeless(play(&mut hands, whole.path(), None).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut hands = Hands { full: 2, ..Hands::new(script(), usize::MAX) };
    for _ in 0..2 {
        play(&mut hands, directory.path(), None).unwrap_err();
        let state = State::load(directory.path()).unwrap();
        let round = state.rounds.last().unwrap();
        assert_eq!((round.number, round.stage, &round.note, round.outcome), (2, Stage::Update, &None, None), "it is not over");
    }
    assert_eq!(timeless(play(&mut hands, directory.path(), None).unwrap()), want);
}

#[test]
fn a_gate_that_has_decided_plays_no_more_tasks_when_its_end_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut hands = Hands { full: 1, ..Hands::new(vec![Ok([2, 9])], usize::MAX) };
    let gate = gate();
    let plan = Plan { rounds: 1, budget: None, gate: &gate, directory: directory.path() };
    finish(run(&mut hands, &plan)).unwrap_err();
    assert_eq!(State::load(directory.path()).unwrap().rounds[0].stage, Stage::Gate);
    let state = finish(run(&mut hands, &plan)).unwrap();
    assert_eq!((state.rounds[0].stage, state.rounds[0].outcome), (Stage::Done, Some(Verdict::Quarantine)));
    assert_eq!(hands.done, ["collect 1", "update 1", "validate 1 from 0", "set aside 1 as Quarantine"]);
}

#[test]
fn nobody_is_promoted_over_a_generation_that_he_was_not_compared_with() {
    for (stage, played) in [(Stage::Gate, 0), (Stage::Publish, 20)] {
        let directory = tempfile::tempdir().unwrap();
        let mut hands = Hands { overtaken: Some(stage), ..Hands::new(vec![Ok([9, 4])], usize::MAX) };
        let gate = gate();
        let state = finish(run(&mut hands, &Plan { rounds: 1, budget: None, gate: &gate, directory: directory.path() })).unwrap();
        let round = &state.rounds[0];
        assert_eq!((round.stage, round.outcome, round.pairs.len()), (Stage::Done, Some(Verdict::Inconclusive), played), "{stage:?}");
        assert!(round.reason().unwrap().contains("other serves now") && hands.serving == "base");
        assert_eq!(hands.done.last().unwrap(), "set aside 1 as Inconclusive");
    }
}

#[test]
fn a_candidate_that_fails_its_proof_is_not_reported_as_promoted() {
    let directory = tempfile::tempdir().unwrap();
    let gate = gate();
    let mut hands = Hands { refuted: Some("it is not what was trained"), ..Hands::new(vec![Ok([9, 4])], usize::MAX) };
    let state = finish(run(&mut hands, &Plan { rounds: 1, budget: None, gate: &gate, directory: directory.path() })).unwrap();
    let round = &state.rounds[0];
    assert_eq!(round.decision.as_ref().map(|decision| decision.verdict), Some(Verdict::Promote));
    assert_eq!((round.verdict(), round.reason().as_deref()), (Verdict::Quarantine, Some("it is not what was trained")));
}

#[test]
fn a_round_that_the_budget_cut_off_says_so() {
    let round = Round { number: 1, stage: Stage::Gate, candidate: Some("x".into()), ..Round::default() };
    assert_eq!(round.verdict(), Verdict::Inconclusive);
    assert!(round.reason().unwrap().starts_with("the budget was spent before its gate had decided"));
}
