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
}

impl Hands {
    fn new(script: Script, power: usize) -> Self {
        Self { script, serving: "base".into(), done: Vec::new(), power }
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

    fn serving(&self) -> String {
        self.serving.clone()
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
        self.serving = round.candidate.clone().unwrap();
        Ok(())
    }

    async fn set_aside(&mut self, round: &Round) -> Result<(), Error> {
        self.done.push(format!("set aside {}", round.number));
        Ok(())
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
    assert!(["set aside 2", "set aside 3", "set aside 4"].iter().all(|what| aside.iter().any(|one| one == what)), "{aside:?}");
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
