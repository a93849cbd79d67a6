//! Episodes of the agent loop: how they are recorded, and how they end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::config::Screenshots;
use milepost_runtime::{
    Action, Agent, Answered, Call, Check, Context, Decision, Environment, Episode, EpisodeStore, Error, NoListener, Observation, Outcome,
    Planned, Policy, Result, Revision, Secrets, SqliteStore, Stop, Task, Tool,
};
use url::Url;

/// A site that repeats the secret `password` in all its answers, and whose page fails after the first action.
struct Leaky {
    secrets: Secrets,
    acted: bool,
}

impl Leaky {
    fn new() -> Self {
        let mut secrets = Secrets::default();
        secrets.add("password", "hunter22", &Url::parse("http://a.org/").unwrap());
        Self { secrets, acted: false }
    }
}

#[async_trait]
impl Environment for Leaky {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        match self.acted {
            false => Ok(Observation { url: "http://a.org/".into(), ..Observation::default() }),
            true => Err(Error::Environment("http://a.org/?p=hunter22 does not answer".into())),
        }
    }

    async fn act(&mut self, _: &Action) -> Result<Outcome> {
        self.acted = true;
        Ok(Outcome::failed("http://a.org/?p=hunter22 cannot be opened"))
    }

    fn scrubbed(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A tool that repeats the secret in its result or in its error.
struct Echo;

#[async_trait]
impl Tool for Echo {
    fn form(&self) -> ToolForm {
        ToolForm { name: "fetch".into(), description: String::new(), schema: serde_json::json!({ "type": "object" }) }
    }

    async fn call(&self, arguments: &serde_json::Value, _: &Task) -> Result<String> {
        match arguments.get("fail") {
            None => Ok("you sent hunter22".into()),
            Some(_) => Err(Error::BadInput("hunter22 is wrong".into())),
        }
    }
}

/// A policy that takes the actions of these lines, one per turn. Without lines, its plan cannot be parsed.
struct Script(&'static [&'static str]);

#[async_trait]
impl Policy for Script {
    fn name(&self) -> &str {
        "script"
    }

    async fn plan(&self, _: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
        match self.0.is_empty() {
            true => Err(Error::parse("plan", "", "there is none")),
            false => Ok((Vec::new(), Vec::new())),
        }
    }

    async fn turn(&self, context: Context<'_>) -> Result<Decision> {
        let action = Action::parse(self.0[context.steps.len()])?;
        Ok(Decision { revision: Revision::Keep, action, calls: Vec::new() })
    }

    async fn answer(&self, _: Context<'_>) -> Result<Answered> {
        Ok(Answered { text: "done".into(), calls: Vec::new() })
    }
}

/// Runs a script on a site; returns the episode from the loop and from the store.
async fn play(environment: &mut dyn Environment, script: &'static [&'static str], check: Option<&str>) -> (Episode, Episode) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let tools: [Arc<dyn Tool>; 1] = [Arc::new(Echo)];
    let agent = Agent {
        policy: &Script(script),
        verifier: None,
        environment,
        tools: &tools,
        store: &store,
        listener: &mut NoListener,
        overseer: None,
        cancel,
        screenshots: Screenshots::Off,
        generation: "script".into(),
        seed: 1,
    };
    let mut task = Task::new("x", "http://a.org/").unwrap();
    task.check = check.map(|check| Check::parse(check).unwrap());
    let episode = agent.run(task).await.unwrap();
    let stored = store.load(&episode.id).await.unwrap().unwrap();
    (episode, stored)
}

#[tokio::test]
async fn what_tools_and_failed_actions_say_is_scrubbed_before_anybody_reads_it() {
    let (episode, stored) = play(&mut Leaky::new(), &["call fetch {}", r#"call fetch {"fail":true}"#, r#"goto "/x""#], None).await;
    let outcome = |turn: usize| &episode.steps[turn].outcome;
    assert_eq!(outcome(0).result.as_deref(), Some("you sent {{secret:password}}"));
    assert_eq!(episode.steps[1].observation.tool_result.as_deref(), Some("you sent {{secret:password}}"), "this is the next prompt");
    assert_eq!(outcome(1).result.as_deref(), Some("error: {{secret:password}} is wrong"));
    assert_eq!(outcome(1).error.as_deref(), Some("{{secret:password}} is wrong"));
    assert_eq!(outcome(2).error.as_deref(), Some("http://a.org/?p={{secret:password}} cannot be opened"));
    assert_eq!(episode.stop, Some(Stop::Failed("environment: http://a.org/?p={{secret:password}} does not answer".into())));
    for record in [&episode, &stored] {
        assert!(!serde_json::to_string(record).unwrap().contains("hunter22"));
    }
}

#[tokio::test]
async fn the_page_of_a_first_plan_that_cannot_be_read_is_written_down() {
    let (_, stored) = play(&mut Leaky::new(), &[], None).await;
    assert!(matches!(stored.stop, Some(Stop::Malformed(_))) && stored.steps.is_empty());
    assert_eq!(stored.last_observation.unwrap().url, "http://a.org/");
}

/// A page with a fixed text, which may be marked as truncated.
struct Fixed {
    text: &'static str,
    truncated: bool,
}

#[async_trait]
impl Environment for Fixed {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        let (text, truncated) = (self.text.to_owned(), self.truncated);
        Ok(Observation { url: "http://a.org/".into(), text, truncated, ..Observation::default() })
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        Ok(Outcome::unsupported(action))
    }

    fn scrubbed(&self, text: &str) -> String {
        text.to_owned()
    }

    async fn screenshot(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Checks the verified outcome of an episode that ends on this page, and whether its check is reported as undecided.
async fn check_outcome(check: Option<&str>, truncated: bool, script: &'static [&'static str], success: Option<bool>, undecided: bool) {
    let (episode, stored) = play(&mut Fixed { text: "Order placed", truncated }, script, check).await;
    for record in [&episode, &stored] {
        assert_eq!((record.success, record.undecided_check().is_some()), (success, undecided), "{check:?}, truncated: {truncated}");
    }
}

#[tokio::test]
async fn a_check_that_a_cut_page_does_not_decide_is_recorded_as_unknown() {
    let (answer, stop) = (&["answer"], &["stop \"x\""]);
    for (truncated, absent) in [(false, Some(false)), (true, None)] {
        check_outcome(Some("text visible \"order placed\""), truncated, answer, Some(true), false).await;
        check_outcome(Some("text visible \"Sold out\""), truncated, answer, absent, absent.is_none()).await;
        check_outcome(Some("url contains \"/cart\""), truncated, answer, Some(false), false).await;
        check_outcome(None, truncated, answer, None, false).await;
        check_outcome(Some("text visible \"Sold out\""), truncated, stop, None, false).await;
    }
}
