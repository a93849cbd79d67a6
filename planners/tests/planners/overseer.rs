//! A person who oversees a run: approves actions, is notified of side effects, and sends messages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use milepost_planners::{PlannersConfig, PromptProfile};
use milepost_runtime::{Action, ApprovalDecision, Error, Overseer, RefusedAction, Result, Stop};

use super::episodes::{PLAN, Played, Setup, play};

/// An overseer that always gives the same ruling after a delay, and logs its calls.
#[derive(Clone)]
struct Person {
    ruling: ApprovalDecision,
    delay: Duration,
    /// The length of the log beyond which it refuses side effects.
    max_log: usize,
    log: Arc<Mutex<Vec<String>>>,
    messages: Arc<Mutex<Vec<String>>>,
}

impl Person {
    fn new(ruling: ApprovalDecision) -> Self {
        Self { ruling, delay: Duration::ZERO, max_log: usize::MAX, log: Arc::default(), messages: Arc::default() }
    }

    fn log(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

#[async_trait]
impl Overseer for Person {
    async fn decide(&self, refused: RefusedAction<'_>) -> Result<ApprovalDecision> {
        self.log(format!("asked {} on {}", refused.action, refused.url));
        tokio::time::sleep(self.delay).await;
        Ok(self.ruling.clone())
    }

    async fn before_side_effect(&self, action: &Action) -> Result<()> {
        self.log(format!("told {action}"));
        match self.log.lock().unwrap().len() > self.max_log {
            true => Err(Error::BadInput("it cannot be written down".into())),
            false => Ok(()),
        }
    }

    fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.messages.lock().unwrap())
    }
}

/// A turn that goes to a host outside the capability.
const OUTSIDE: &str = "keep\ngoto \"http://other.local/cart\"";

async fn overseen(person: &Person, answers: &[&str]) -> Played {
    play(Setup { overseer: Some(Box::new(person.clone())), ..Setup::default() }, answers).await
}

#[tokio::test]
async fn a_person_decides_what_the_capability_refuses() {
    // The run goes to the same host twice: once approved, the host may be reached.
    let answers = [PLAN, OUTSIDE, OUTSIDE, "keep\nanswer", "42"];
    for (ruling, ok, asked, error) in [
        (ApprovalDecision::Approved, true, 1, None),
        (ApprovalDecision::Denied(Some("stay in the shop".into())), false, 2, Some("a person refused it: stay in the shop (")),
    ] {
        let person = Person::new(ruling);
        let played = overseen(&person, &answers).await;
        assert_eq!(played.episode.stop, Some(Stop::Answered));
        let outcomes: Vec<_> = played.episode.steps[..2].iter().map(|step| &step.outcome).collect();
        assert!(outcomes.iter().all(|outcome| outcome.ok == ok), "{outcomes:?}");
        assert!(error.is_none_or(|error| outcomes[0].error.as_ref().unwrap().starts_with(error)), "{outcomes:?}");
        let log = person.log.lock().unwrap();
        assert_eq!(*log, vec!["asked goto \"http://other.local/cart\" on http://shop.local/home"; asked]);
        // An approval widens the hosts by this one, and the host of the first page stays.
        let hosts = &played.episode.task.capability.hosts;
        assert_eq!(hosts.len(), if ok { 2 } else { 1 }, "{hosts:?}");
    }
    let nobody = overseen(&Person::new(ApprovalDecision::Undecided), &[PLAN, OUTSIDE]).await;
    assert!(matches!(nobody.episode.stop, Some(Stop::NeedsApproval(_))));
}

#[tokio::test]
async fn waiting_for_a_person_does_not_count_against_the_time_limit() {
    let person = Person { delay: Duration::from_secs(6), ..Person::new(ApprovalDecision::Approved) };
    let setup = Setup { overseer: Some(Box::new(person)), limits_seconds: 5, ..Setup::default() };
    let played = play(setup, &[PLAN, OUTSIDE, "keep\nanswer", "42"]).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered), "it may take five seconds");
}

#[tokio::test]
async fn the_overseer_is_notified_before_a_side_effect() {
    let answers = [PLAN, "keep\ngoto \"/cart\"", "keep\ntype \"Search\" 1 \"x\"", "keep\nclick \"done\" 4", "keep\nanswer", "42"];
    let person = Person::new(ApprovalDecision::Undecided);
    let played = overseen(&person, &answers).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered));
    assert_eq!(*person.log.lock().unwrap(), ["told type 1 \"x\"", "told click 4"]);

    let person = Person { max_log: 1, ..Person::new(ApprovalDecision::Undecided) };
    let played = overseen(&person, &answers).await;
    let Some(Stop::Failed(reason)) = &played.episode.stop else { panic!("{:?}", played.episode.stop) };
    assert!(reason.contains("cannot be written down"));
    assert_eq!(played.episode.last_observation.unwrap().url, "http://shop.local/cart", "it did not click");
}

#[tokio::test]
async fn a_persons_message_is_shown_only_in_the_instruct_prompt() {
    for (prompt_profile, shown) in [(PromptProfile::Instruct, true), (PromptProfile::Seed, false)] {
        let person = Person::new(ApprovalDecision::Undecided);
        person.messages.lock().unwrap().push("take the blue one".into());
        let config = PlannersConfig { prompt_profile, ..PlannersConfig::default() };
        let answers = match shown {
            true => [PLAN, "keep\nclick 3", "keep\nanswer", "42"],
            false => [PLAN, "keep\nclick \"cart\" 3", "keep\nanswer", "42"],
        };
        let played = play(Setup { config, overseer: Some(Box::new(person)), ..Setup::default() }, &answers).await;
        assert_eq!(played.episode.stop, Some(Stop::Answered));
        let told: Vec<bool> = (1..3).map(|n| played.engine.prompt(n).contains("says meanwhile:\n- take the blue one\n")).collect();
        assert_eq!(told, [shown, shown], "at this turn and all later ones");
    }
}
