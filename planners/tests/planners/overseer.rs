//! A person beside a run: asked, told and heard.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use milepost_planners::{PlannersConfig, PromptProfile};
use milepost_runtime::{Action, Error, Overseer, Refusal, Result, Ruling, Stop};

use super::episodes::{PLAN, Played, Setup, play};

/// Rules the same each time, after a while; writes down what it is asked and told.
#[derive(Clone)]
struct Person {
    ruling: Ruling,
    thinks: Duration,
    /// Actions from which on it allows no side effect.
    allows: usize,
    log: Arc<Mutex<Vec<String>>>,
    says: Arc<Mutex<Vec<String>>>,
}

impl Person {
    fn new(ruling: Ruling) -> Self {
        Self { ruling, thinks: Duration::ZERO, allows: usize::MAX, log: Arc::default(), says: Arc::default() }
    }

    fn log(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

#[async_trait]
impl Overseer for Person {
    async fn rule(&self, refusal: Refusal<'_>) -> Result<Ruling> {
        self.log(format!("asked {} on {}", refusal.action, refusal.url));
        tokio::time::sleep(self.thinks).await;
        Ok(self.ruling.clone())
    }

    async fn acting(&self, action: &Action) -> Result<()> {
        self.log(format!("told {action}"));
        match self.log.lock().unwrap().len() > self.allows {
            true => Err(Error::BadInput("it cannot be written down".into())),
            false => Ok(()),
        }
    }

    fn messages(&self) -> Vec<String> {
        std::mem::take(&mut self.says.lock().unwrap())
    }
}

const OUT: &str = "keep\ngoto \"http://other.local/cart\"";

async fn overseen(person: &Person, answers: &[&str]) -> Played {
    play(Setup { overseer: Some(Box::new(person.clone())), ..Setup::default() }, answers).await
}

#[tokio::test]
async fn a_person_decides_what_the_capability_refuses() {
    // Twice to the same host: approved once, it may be reached.
    let answers = [PLAN, OUT, OUT, "keep\nanswer", "42"];
    for (ruling, ok, asked, error) in [
        (Ruling::Approved, true, 1, None),
        (Ruling::Denied(Some("stay in the shop".into())), false, 2, Some("a person refused it: stay in the shop (")),
    ] {
        let person = Person::new(ruling);
        let played = overseen(&person, &answers).await;
        assert_eq!(played.episode.stop, Some(Stop::Answered));
        let outcomes: Vec<_> = played.episode.steps[..2].iter().map(|step| &step.outcome).collect();
        assert!(outcomes.iter().all(|outcome| outcome.ok == ok), "{outcomes:?}");
        assert!(error.is_none_or(|error| outcomes[0].error.as_ref().unwrap().starts_with(error)), "{outcomes:?}");
        let log = person.log.lock().unwrap();
        assert_eq!(*log, vec!["asked goto \"http://other.local/cart\" on http://shop.local/home"; asked]);
        // The host is all that was widened, and the first page's is still among them.
        let hosts = &played.episode.task.capability.hosts;
        assert_eq!(hosts.len(), if ok { 2 } else { 1 }, "{hosts:?}");
    }
    let nobody = overseen(&Person::new(Ruling::Undecided), &[PLAN, OUT]).await;
    assert!(matches!(nobody.episode.stop, Some(Stop::NeedsApproval(_))));
}

#[tokio::test]
async fn waiting_for_a_person_is_not_the_runs_time() {
    let person = Person { thinks: Duration::from_secs(6), ..Person::new(Ruling::Approved) };
    let setup = Setup { overseer: Some(Box::new(person)), limits_seconds: 5, ..Setup::default() };
    let played = play(setup, &[PLAN, OUT, "keep\nanswer", "42"]).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered), "it may take five seconds");
}

#[tokio::test]
async fn an_action_with_a_side_effect_is_told_before_it_happens() {
    let answers = [PLAN, "keep\ngoto \"/cart\"", "keep\ntype \"Search\" 1 \"x\"", "keep\nclick \"done\" 4", "keep\nanswer", "42"];
    let person = Person::new(Ruling::Undecided);
    let played = overseen(&person, &answers).await;
    assert_eq!(played.episode.stop, Some(Stop::Answered));
    assert_eq!(*person.log.lock().unwrap(), ["told type 1 \"x\"", "told click 4"]);

    let person = Person { allows: 1, ..Person::new(Ruling::Undecided) };
    let played = overseen(&person, &answers).await;
    let Some(Stop::Failed(reason)) = &played.episode.stop else { panic!("{:?}", played.episode.stop) };
    assert!(reason.contains("cannot be written down"));
    assert_eq!(played.episode.last_observation.unwrap().url, "http://shop.local/cart", "it did not click");
}

#[tokio::test]
async fn what_a_person_says_stands_in_the_instruct_prompt_only() {
    for (prompt_profile, shown) in [(PromptProfile::Instruct, true), (PromptProfile::Seed, false)] {
        let person = Person::new(Ruling::Undecided);
        person.says.lock().unwrap().push("take the blue one".into());
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
