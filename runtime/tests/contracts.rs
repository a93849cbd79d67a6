//! Plans, checks, actions and observations: what they print they parse, and what they refuse.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use milepost_runtime::action::ToolForm;
use milepost_runtime::config::Screenshots;
use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{
    Action, Agent, Answered, Call, Capability, Check, Context, Decision, Element, Environment, Episode, EpisodeStore, Error, NoListener,
    Observation, Outcome, Plan, Planned, Policy, Result, Revision, Secrets, SqliteStore, State, StepStatus, Stop, Task, Tool, Verdict,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

fn plan(texts: &[&str]) -> Plan {
    Plan::new(texts.iter().map(|text| Planned::parse(text).unwrap()).collect())
}

fn texts(plan: &Plan) -> Vec<(String, StepStatus)> {
    plan.steps.iter().map(|step| (step.text.clone(), step.status)).collect()
}

/// Applies a revision to a plan whose first `done` steps are verified and whose next was begun if `begun`.
fn check_plan_revision(before: &[&str], done: usize, begun: bool, revision: &str, after: &[(&str, StepStatus)]) {
    let mut plan = plan(before);
    for turn in 0..done {
        plan.executed(turn as u32);
        assert!(plan.settle(Verdict::True, VerdictBy::Check, turn as u32));
    }
    if begun {
        plan.executed(done as u32);
    }
    let prefix = serde_json::to_string(&plan.steps[..done]).unwrap();
    plan.revise(Revision::parse(revision).unwrap()).unwrap();
    let expected: Vec<_> = after.iter().map(|(text, status)| ((*text).to_owned(), *status)).collect();
    assert_eq!(texts(&plan), expected);
    assert_eq!(serde_json::to_string(&plan.steps[..done]).unwrap(), prefix, "the executed prefix is byte-identical");
    assert_eq!(plan.version, 2);
}

#[test]
fn a_revision_rewrites_the_suffix_and_keeps_failed_steps() {
    use StepStatus::{Done, Failed, Pending};
    check_plan_revision(&["a", "b", "c"], 1, false, "revise\nx\ny\nend", &[("a", Done), ("x", Pending), ("y", Pending)]);
    check_plan_revision(&["a", "b", "c"], 1, true, "revise\nx\nresume 3", &[("a", Done), ("b", Failed), ("x", Pending), ("c", Pending)]);
    check_plan_revision(&["a", "b", "c"], 1, true, "revise\nx\nresume 2", &[("a", Done), ("x", Pending), ("b", Pending), ("c", Pending)]);
}

#[test]
fn a_revision_cannot_touch_the_executed_prefix() {
    let mut plan = plan(&["a", "b"]);
    plan.settle(Verdict::True, VerdictBy::Check, 0);
    let before = plan.clone();
    assert!(plan.revise(Revision::parse("revise\nresume 1").unwrap()).is_err());
    assert!(plan.revise(Revision::parse("revise\nresume 9").unwrap()).is_err());
    assert_eq!(plan, before);
}

#[test]
fn only_a_true_verdict_moves_the_cursor() {
    let mut plan = plan(&["a"]);
    assert!(!plan.settle(Verdict::Unknown, VerdictBy::Verifier, 0));
    assert!(!plan.settle(Verdict::False, VerdictBy::Check, 0));
    assert!(plan.settle(Verdict::True, VerdictBy::Check, 1) && plan.finished());
    assert!(!plan.settle(Verdict::True, VerdictBy::Check, 2));
}

fn page(truncated: bool) -> Observation {
    let element = |id, role: &str, name: &str, value: Option<&str>, state: Vec<State>| Element {
        id,
        role: role.into(),
        name: name.into(),
        value: value.map(Into::into),
        state,
        ..Element::default()
    };
    Observation {
        url: "http://127.0.0.1:8080/cart?step=2".into(),
        title: "Cart".into(),
        elements: vec![
            element(1, "link", "Home", None, vec![]),
            element(2, "textbox", "City", Some("Oslo"), vec![State::Required]),
            element(3, "checkbox", "Gift wrap", None, vec![State::Checked]),
        ],
        text: "[#1]\nBlue Mug | 12.50 | [#2]\nTotal  12.50 [#3]".into(),
        truncated,
        ..Observation::default()
    }
}

fn check_verdict(check: &str, truncated: bool, expected: Verdict) {
    let parsed = Check::parse(check).unwrap();
    assert_eq!(parsed.evaluate(&page(truncated)), expected, "{check}");
    assert_eq!(Check::parse(&parsed.to_string()).unwrap(), parsed, "{check} prints as it parses");
}

#[test]
fn checks_decide_from_the_page_alone() {
    use Verdict::{False, True, Unknown};
    for (check, whole, cut) in [
        (r#"url contains "/cart""#, True, True),
        (r#"url contains "/home""#, False, False),
        (r#"text visible "total 12.50""#, True, True),
        (r#"text visible "Sold out""#, False, Unknown),
        (r#"field "City" is "Oslo""#, True, True),
        (r#"field "City" is "Rome""#, False, False),
        (r#"field "Zip" is "1""#, False, Unknown),
        (r#"checked "Gift wrap""#, True, True),
        (r#"exists link "Home""#, True, True),
        (r#"count textbox at least 2"#, False, Unknown),
        (r#"not text visible "Sold out""#, True, Unknown),
        (r#"url contains "/x" or checked "Gift wrap""#, True, True),
        (r#"(url contains "/cart" and text visible "Sold out")"#, False, Unknown),
    ] {
        check_verdict(check, false, whole);
        check_verdict(check, true, cut);
    }
    assert!(Check::parse("url contains /cart").is_err() && Check::parse(r#"url contains "a" junk"#).is_err());
}

#[test]
fn a_page_is_rendered_with_elements_in_their_place() {
    let expected = "page \"Cart\" /cart?step=2\nlink \"Home\" 1\nBlue Mug | 12.50 | textbox \"City\" 2 = \"Oslo\" required\nTotal 12.50 | checkbox \"Gift wrap\" 3 checked";
    assert_eq!(page(false).render(60), expected);
    assert!(page(false).render(2).ends_with('…'));
    assert!(!page(false).readable().contains("[#"));
}

#[test]
fn a_capability_confines_addresses_tools_and_secrets() {
    let task = Task::new("x", "https://shop.example.org/").unwrap();
    let at = &task.start_url;
    let refused = |line: &str| task.capability.refuses(&Action::parse(line).unwrap(), at).is_some();
    assert!(!refused(r#"goto "/cart""#) && !refused(r#"goto "https://shop.example.org/x""#));
    for line in [
        r#"goto "https://shop.example.org.evil.io/""#,
        r#"goto "https://shop.example.org@evil.io/""#,
        r#"goto "https://shop.example.org:444/""#,
        r#"goto "javascript:alert(1)""#,
        r#"goto "file:///etc/passwd""#,
        r#"call fetch {"url":"https://evil.io/"}"#,
        r#"call shell {}"#,
        r#"type 1 "{{secret:password}}""#,
    ] {
        assert!(refused(line), "{line}");
    }
    let wide = Capability { hosts: vec!["*.example.org".into()], ..task.capability.clone() };
    assert!(wide.allows_url(&Url::parse("https://a.example.org/").unwrap()));
    assert!(
        !wide.allows_url(&Url::parse("https://badexample.org/").unwrap()) && !wide.allows_url(&Url::parse("https://example.org/").unwrap())
    );
}

#[test]
fn a_secret_is_typed_on_its_origin_only_and_scrubbed_everywhere() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    secrets.add("password", "hunter22", &home);
    assert_eq!(secrets.reveal("{{secret:password}}!", &home).unwrap(), "hunter22!");
    assert!(secrets.reveal("{{secret:password}}", &Url::parse("https://evil.io/").unwrap()).is_err());
    assert!(secrets.reveal("{{secret:other}}", &home).is_err());
    assert_eq!(secrets.scrub("you typed hunter22"), "you typed {{secret:password}}");
    assert!(!format!("{secrets:?}").contains("hunter22"));
}

#[test]
fn a_secret_is_scrubbed_however_it_is_written() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    secrets.add("long", r#"p&ss "w/rd!"#, &home);
    secrets.add("part", "p&ss", &home);
    for text in [
        r#"p&ss "w/rd!"#,
        r#"p&ss \"w/rd!"#,
        r#"p&amp;ss "w/rd!"#,
        "p&amp;ss &quot;w/rd!",
        "p%26ss+%22w%2Frd%21",
        "p%26ss%20%22w%2Frd%21",
        "p%26ss%20%22w%2Frd!",
    ] {
        assert_eq!(secrets.scrub(&format!("é{text}é")), "é{{secret:long}}é", "{text}");
    }
    assert_eq!(secrets.scrub("p&ss p&s"), "{{secret:part}} p&s");
}

#[test]
fn a_secret_that_was_cut_is_not_shown_in_part() {
    let mut secrets = Secrets::default();
    secrets.add("password", "hunter22", &Url::parse("https://desk.example.org/login").unwrap());
    let long = "x".repeat(300);
    let element = |id, name: &str, value: &str| Element { id, name: name.into(), value: Some(value.into()), ..Element::default() };
    for (name, value, cut, shown) in [
        (format!("{long}hunt"), "", true, (format!("{long}{{{{secret:password}}}}"), "")),
        (format!("{long}hunt"), "", false, (format!("{long}hunt"), "")),
        (format!("{long}hun"), "", true, (format!("{long}hun"), "")),
        ("to hunt".into(), "to hunt", true, ("to hunt".into(), "to hunt")),
    ] {
        let mut page = Observation { elements: vec![element(1, &name, value)], truncated: cut, ..Observation::default() };
        secrets.scrub_page(&mut page, &HashSet::new());
        assert_eq!((page.elements[0].name.clone(), page.elements[0].value.as_deref().unwrap()), shown);
    }
    // What keys left of a typed one; the element beside it holds words.
    for (value, shown) in [
        ("hunter2", "{{secret:password}}"),
        ("h", "{{secret:password}}"),
        ("me:hunte", "me:{{secret:password}}"),
        ("north", "north"),
        ("", ""),
    ] {
        let mut page = Observation { elements: vec![element(7, "", value), element(8, "", value)], ..Observation::default() };
        secrets.scrub_page(&mut page, &HashSet::from([7]));
        let values: Vec<_> = page.elements.iter().map(|element| element.value.as_deref().unwrap()).collect();
        assert_eq!(values, [shown, value]);
    }
}

#[test]
fn a_secret_that_could_not_be_hidden_is_never_typed() {
    let mut secrets = Secrets::default();
    let home = Url::parse("https://desk.example.org/login").unwrap();
    for (value, typed) in [("", false), ("123", false), ("1234", true)] {
        secrets.add("pin", value, &home);
        match secrets.reveal("{{secret:pin}}", &home) {
            Ok(text) => assert!(typed && text == value, "{value}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!typed && said.contains("\"pin\"") && said.contains("longer") && !said.contains("123"), "{said}");
            }
        }
        assert_eq!(Secrets::can_be_hidden("pin", value).is_ok(), typed);
    }
    secrets.add("admin", "admin", &home);
    let scrubbed = secrets.scrub("user admin");
    assert_eq!((scrubbed.as_str(), secrets.scrub(&scrubbed).as_str()), ("user {{secret:admin}}", "user {{secret:admin}}"));
    secrets.add("word", "hunter22", &home);
    assert_eq!(secrets.scrub("{{secret:hunter22}}"), "{{secret:{{secret:word}}}}", "no page hides a value in a placeholder");
    secrets.add("pin", "12", &home);
    assert_eq!(secrets.scrub("12 of 123 pages"), "12 of 123 pages");
}

/// A site whose every answer holds the secret `password`, and whose page is gone once an action was tried on it.
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

/// A tool that answers with the secret, or fails with it.
struct Echo;

#[async_trait]
impl Tool for Echo {
    fn form(&self) -> ToolForm {
        ToolForm { name: "fetch".into(), schema: serde_json::json!({ "type": "object" }) }
    }

    async fn call(&self, arguments: &serde_json::Value, _: &Task) -> Result<String> {
        match arguments.get("fail") {
            None => Ok("you sent hunter22".into()),
            Some(_) => Err(Error::BadInput("hunter22 is wrong".into())),
        }
    }
}

/// Does one line after the other; without a line it cannot even plan.
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

/// Plays a script on the leaky site; returns the episode as the loop holds it and as the store wrote it.
async fn play(script: &'static [&'static str]) -> (Episode, Episode) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let (_keep, cancel) = tokio::sync::watch::channel(false);
    let tools: [Arc<dyn Tool>; 1] = [Arc::new(Echo)];
    let agent = Agent {
        policy: &Script(script),
        verifier: None,
        environment: &mut Leaky::new(),
        tools: &tools,
        store: &store,
        listener: &mut NoListener,
        overseer: None,
        cancel,
        screenshots: Screenshots::Off,
        generation: "script".into(),
        seed: 1,
    };
    let episode = agent.run(Task::new("x", "http://a.org/").unwrap()).await.unwrap();
    let stored = store.load(&episode.id).await.unwrap().unwrap();
    (episode, stored)
}

#[tokio::test]
async fn what_tools_and_failed_actions_say_is_scrubbed_before_anybody_reads_it() {
    let (episode, stored) = play(&["call fetch {}", r#"call fetch {"fail":true}"#, r#"goto "/x""#]).await;
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
    let (_, stored) = play(&[]).await;
    assert!(matches!(stored.stop, Some(Stop::Malformed(_))) && stored.steps.is_empty());
    assert_eq!(stored.last_observation.unwrap().url, "http://a.org/");
}

#[test]
fn bad_tasks_are_refused_with_the_fix() {
    for (goal, url) in [(" ", "http://a.org/"), ("x", "ftp://a.org/"), ("x", "a.org"), ("x", "file:///x")] {
        assert!(Task::new(goal, url).is_err(), "{goal} {url}");
    }
}

/// Texts of random printable characters, quotes, escapes and markers well represented.
fn texts_at_random(count: usize, longest: usize) -> impl Iterator<Item = String> {
    const ALPHABET: [&str; 14] = ["a", "B", "7", " ", "\"", "\\", "=>", "[#1]", "{{secret:x}}", "é", "漢", "'", "(", "not "];
    let mut rng = StdRng::seed_from_u64(7);
    (0..count).map(move |_| (0..rng.random_range(1..=longest)).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())]).collect())
}

#[test]
fn a_check_from_outside_cannot_exhaust_the_stack() {
    for text in ["(".repeat(1_000_000), "not ".repeat(1_000_000), format!("{}checked \"x\"", "not ".repeat(65))] {
        assert!(Check::parse(&text).is_err());
    }
    assert!(Check::parse(&format!("{}checked \"x\"", "not ".repeat(64))).is_ok());
    assert!(Check::parse(&format!("text visible \"{} \\\"not\"", "not (".repeat(80))).is_ok(), "what is quoted nests nothing");
    assert!(Check::parse(&format!("text visible \"x\" and {}checked \"x\"", "(".repeat(65))).is_err());
}

#[test]
fn any_text_survives_an_action_line_and_a_check() {
    for text in texts_at_random(2_000, 30) {
        let action = Action::Type { id: 12, text: text.clone() };
        assert_eq!(Action::parse(&action.to_string()).unwrap(), action);
        let check = Check::FieldHasValue { name: text.clone(), value: text };
        assert_eq!(Check::parse(&check.to_string()).unwrap(), check);
    }
}

#[test]
fn no_line_makes_the_parsers_panic() {
    for line in texts_at_random(2_000, 20) {
        for start in ["", "type 1 ", "call fetch ", "revise\n", "count ", "field \""] {
            let line = format!("{start}{line}");
            let read =
                [Action::parse(&line).is_ok(), Check::parse(&line).is_ok(), Revision::parse(&line).is_ok(), Planned::parse(&line).is_ok()];
            assert!(read.len() == 4);
        }
    }
}
