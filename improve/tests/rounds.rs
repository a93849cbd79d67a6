//! Tests the improvement loop with a scripted stage runner that does no work: the order of the stages, and resuming after a kill at any call.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use milepost_improve::Error;
use milepost_improve::gate::{GateConfig, Pair, Verdict};
use milepost_improve::rounds::{Failure, Round, RunPlan, Stage, StageRunner, State, run};
use milepost_learners::policy::Report;

/// Runs a future that never waits.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the scripted runner never waits"),
    }
}

/// One entry per round: how many of ten tasks candidate and incumbent solve, or why there is no candidate.
type Script = Vec<Result<[usize; 2], &'static str>>;

/// A stage runner that follows a script and records its calls.
struct ScriptedRunner {
    script: Script,
    serving: String,
    /// The calls so far, in order.
    calls: Vec<String>,
    /// The number of calls until the run is interrupted.
    calls_left: usize,
    /// The number of times that recording a rejection fails because the disk is full.
    disk_full: usize,
    /// The stage of the first round at which another generation comes into service.
    overtaken_at: Option<Stage>,
    /// The reason why every candidate fails its proof, if it does.
    proof_failure: Option<&'static str>,
}

impl ScriptedRunner {
    fn new(script: Script, calls_left: usize) -> Self {
        Self { script, serving: "base".into(), calls: Vec::new(), calls_left, disk_full: 0, overtaken_at: None, proof_failure: None }
    }

    fn record(&mut self, call: String) -> Result<(), Failure<Error>> {
        if self.calls_left == 0 {
            return Err(Failure::Run(Error::Failed("the power failed".into())));
        }
        self.calls_left -= 1;
        self.calls.push(call);
        Ok(())
    }
}

impl StageRunner for ScriptedRunner {
    type Error = Error;

    async fn follow_registry(&mut self) -> Result<String, Error> {
        Ok(self.serving.clone())
    }

    async fn collect(&mut self, round: &Round) -> Result<(usize, usize), Failure<Error>> {
        self.record(format!("collect {}", round.number))?;
        Ok((8, 4))
    }

    async fn update(&mut self, round: &Round) -> Result<(String, Report), Failure<Error>> {
        self.record(format!("update {}", round.number))?;
        match self.script[round.number - 1] {
            Ok(_) => Ok((format!("candidate {}", round.number), Report::default())),
            Err(reason) => Err(Failure::Candidate(reason.into())),
        }
    }

    async fn validate(&mut self, round: &Round, tasks: usize) -> Result<Vec<Pair>, Failure<Error>> {
        self.record(format!("validate {} from {}", round.number, round.pairs.len()))?;
        let [candidate, incumbent] = self.script[round.number - 1].unwrap();
        Ok((0..tasks).map(|task| Pair::solved(task % 10 < candidate, task % 10 < incumbent)).collect())
    }

    async fn publish(&mut self, round: &Round) -> Result<(), Failure<Error>> {
        self.record(format!("publish {}", round.number))?;
        if let Some(problem) = self.proof_failure {
            return Err(Failure::Candidate(problem.into()));
        }
        self.serving = round.candidate.clone().unwrap();
        Ok(())
    }

    async fn record_outcome(&mut self, round: &Round) -> Result<(), Error> {
        if self.disk_full > 0 {
            self.disk_full -= 1;
            return Err(Error::Failed("the disk is full".into()));
        }
        let outcome = round.outcome.map_or_else(String::new, |outcome| format!(" as {outcome:?}"));
        self.calls.push(format!("reject {}{outcome}", round.number));
        Ok(())
    }

    async fn overtaken(&self, round: &Round) -> Result<Option<String>, Error> {
        let note = || "other serves now, and candidate 1 was compared with base".to_owned();
        Ok((round.number == 1 && self.overtaken_at == Some(round.stage)).then(note))
    }

    fn report(&mut self, _: &Round) {}
}

fn script() -> Script {
    vec![Ok([9, 4]), Err("nothing to learn from"), Ok([2, 9]), Ok([5, 5]), Ok([10, 9])]
}

fn gate() -> GateConfig {
    GateConfig { looks: 3, tasks_per_look: 20, ..GateConfig::default() }
}

fn play(runner: &mut ScriptedRunner, directory: &std::path::Path, budget: Option<Duration>) -> Result<State, Error> {
    let gate = gate();
    finish(run(runner, &RunPlan { rounds: 5, budget, gate: &gate, directory }))
}

/// Returns the state with the times set to 0.
fn timeless(mut state: State) -> State {
    state.rounds.iter_mut().for_each(|round| round.seconds = 0.0);
    state
}

#[test]
fn the_better_serve_the_worse_are_quarantined_and_rounds_without_a_candidate_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner::new(script(), usize::MAX);
    let state = play(&mut runner, directory.path(), None).unwrap();
    let verdicts: Vec<_> = state.rounds.iter().map(|round| round.decision.as_ref().map(|decision| decision.verdict)).collect();
    use Verdict::{Inconclusive, Promote, Quarantine};
    assert_eq!(verdicts[..4], [Some(Promote), None, Some(Quarantine), Some(Inconclusive)]);
    assert_eq!(state.rounds[1].note.as_deref(), Some("nothing to learn from"));
    let incumbents: Vec<&str> = state.rounds.iter().map(|round| &round.incumbent[..]).collect();
    assert_eq!(incumbents[..4], ["base", "candidate 1", "candidate 1", "candidate 1"]);
    let rejected: Vec<_> = runner.calls.iter().filter(|call| call.starts_with("reject")).collect();
    assert_eq!(rejected[..3], ["reject 2", "reject 3 as Quarantine", "reject 4 as Inconclusive"]);
    let outcomes: Vec<_> = state.rounds.iter().map(|round| round.outcome).collect();
    assert_eq!(outcomes[..4], [Some(Promote), None, Some(Quarantine), Some(Inconclusive)]);
    assert!(state.rounds.iter().all(|round| round.reason().is_some()));
    let first: Vec<&str> = runner.calls.iter().map(String::as_str).take(4).collect();
    assert_eq!(first, ["collect 1", "update 1", "validate 1 from 0", "publish 1"], "a clear win needs one look");
}

#[test]
fn a_run_that_is_killed_at_any_call_and_resumed_ends_in_the_same_state() {
    let whole = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner::new(script(), usize::MAX);
    let want = timeless(play(&mut runner, whole.path(), None).unwrap());
    let calls = runner.calls.iter().filter(|call| !call.starts_with("reject")).count();
    for calls_left in 0..calls {
        let directory = tempfile::tempdir().unwrap();
        let mut first = ScriptedRunner::new(script(), calls_left);
        play(&mut first, directory.path(), None).unwrap_err();
        let mut second = ScriptedRunner { serving: first.serving.clone(), ..ScriptedRunner::new(script(), usize::MAX) };
        let got = timeless(play(&mut second, directory.path(), None).unwrap());
        assert_eq!(got, want, "died after {calls_left} calls");
        assert_eq!([first.calls, second.calls].concat(), runner.calls, "nothing is done twice or left out after {calls_left} calls");
    }
}

#[test]
fn a_spent_budget_starts_no_round() {
    let directory = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner::new(script(), usize::MAX);
    assert!(play(&mut runner, directory.path(), Some(Duration::ZERO)).unwrap().rounds.is_empty());
    let state = play(&mut runner, directory.path(), Some(Duration::from_secs(600))).unwrap();
    assert!(state.rounds.len() == 5 && state.rounds.iter().all(|round| round.stage == Stage::Done));
}

#[test]
fn a_rejection_that_could_not_be_recorded_is_recorded_by_the_next_start() {
    let whole = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner::new(script(), usize::MAX);
    let want = timeless(play(&mut runner, whole.path(), None).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner { disk_full: 2, ..ScriptedRunner::new(script(), usize::MAX) };
    for _ in 0..2 {
        play(&mut runner, directory.path(), None).unwrap_err();
        let state = State::load(directory.path()).unwrap();
        let round = state.rounds.last().unwrap();
        assert_eq!((round.number, round.stage, &round.note, round.outcome), (2, Stage::Update, &None, None), "it is not over");
    }
    assert_eq!(timeless(play(&mut runner, directory.path(), None).unwrap()), want);
}

#[test]
fn a_gate_that_has_decided_plays_no_more_tasks_when_its_rejection_is_recorded_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut runner = ScriptedRunner { disk_full: 1, ..ScriptedRunner::new(vec![Ok([2, 9])], usize::MAX) };
    let gate = gate();
    let plan = RunPlan { rounds: 1, budget: None, gate: &gate, directory: directory.path() };
    finish(run(&mut runner, &plan)).unwrap_err();
    assert_eq!(State::load(directory.path()).unwrap().rounds[0].stage, Stage::Gate);
    let state = finish(run(&mut runner, &plan)).unwrap();
    assert_eq!((state.rounds[0].stage, state.rounds[0].outcome), (Stage::Done, Some(Verdict::Quarantine)));
    assert_eq!(runner.calls, ["collect 1", "update 1", "validate 1 from 0", "reject 1 as Quarantine"]);
}

#[test]
fn no_candidate_is_promoted_over_a_generation_that_it_was_not_compared_with() {
    for (stage, played) in [(Stage::Gate, 0), (Stage::Publish, 20)] {
        let directory = tempfile::tempdir().unwrap();
        let mut runner = ScriptedRunner { overtaken_at: Some(stage), ..ScriptedRunner::new(vec![Ok([9, 4])], usize::MAX) };
        let gate = gate();
        let state = finish(run(&mut runner, &RunPlan { rounds: 1, budget: None, gate: &gate, directory: directory.path() })).unwrap();
        let round = &state.rounds[0];
        assert_eq!((round.stage, round.outcome, round.pairs.len()), (Stage::Done, Some(Verdict::Inconclusive), played), "{stage:?}");
        assert!(round.reason().unwrap().contains("other serves now") && runner.serving == "base");
        assert_eq!(runner.calls.last().unwrap(), "reject 1 as Inconclusive");
    }
}

#[test]
fn a_candidate_that_fails_its_proof_is_not_reported_as_promoted() {
    let directory = tempfile::tempdir().unwrap();
    let gate = gate();
    let mut runner =
        ScriptedRunner { proof_failure: Some("it is not what was trained"), ..ScriptedRunner::new(vec![Ok([9, 4])], usize::MAX) };
    let state = finish(run(&mut runner, &RunPlan { rounds: 1, budget: None, gate: &gate, directory: directory.path() })).unwrap();
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
