//! Tests that a new kind of action needs only its table entry and a handler, with the example `highlight`, which exists in tests only.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use url::Url;

use super::{ActionForms, Naming, action_rules, named_line};
use crate::config::Screenshots;
use crate::{
    Action, ActionKind, Agent, Answered, Call, Capability, Context, Decision, Element, Environment, Episode, NoListener, Observation,
    Outcome, Planned, Policy, Result, Revision, SqliteStore, Stop, Task,
};

const LINE: &str = "highlight 3 \"here\"";

fn page() -> Observation {
    let link = Element { id: 3, role: "link".into(), name: "Cart".into(), ..Element::default() };
    Observation { url: "http://a.org/".into(), elements: vec![link], ..Observation::default() }
}

fn highlight() -> Action {
    Action::Highlight { id: 3, label: "here".into() }
}

/// An environment that can only highlight elements.
#[derive(Default)]
struct Marked {
    marks: Vec<(u32, String)>,
}

#[async_trait]
impl Environment for Marked {
    async fn reset(&mut self, _: &Task) -> Result<()> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observation> {
        Ok(page())
    }

    async fn act(&mut self, action: &Action) -> Result<Outcome> {
        Ok(match action {
            Action::Highlight { id, label } => {
                self.marks.push((*id, label.clone()));
                Outcome::done()
            }
            other => Outcome::unsupported(other),
        })
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

/// A policy that takes the actions of these lines, one per turn.
struct Lines(&'static [&'static str]);

#[async_trait]
impl Policy for Lines {
    fn name(&self) -> &str {
        "lines"
    }

    async fn plan(&self, _: Context<'_>) -> Result<(Vec<Planned>, Vec<Call>)> {
        Ok((Vec::new(), Vec::new()))
    }

    async fn turn(&self, context: Context<'_>) -> Result<Decision> {
        let action = Action::parse(self.0[context.steps.len()])?;
        Ok(Decision { revision: Revision::Keep, action, calls: Vec::new() })
    }

    async fn answer(&self, _: Context<'_>) -> Result<Answered> {
        Ok(Answered { text: "done".into(), calls: Vec::new() })
    }
}

/// Runs a task that may use these kinds; returns the environment and the episode.
async fn run(kinds: &[ActionKind], lines: &'static [&'static str]) -> (Marked, Episode) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let mut environment = Marked::default();
    let cancel = tokio_util::sync::CancellationToken::new();
    let agent = Agent {
        policy: &Lines(lines),
        verifier: None,
        environment: &mut environment,
        tools: &[],
        store: &store,
        listener: &mut NoListener,
        overseer: None,
        cancel,
        screenshots: Screenshots::Off,
        generation: "lines".into(),
        seed: 1,
    };
    let mut task = Task::new("x", "http://a.org/").unwrap();
    task.capability.action_kinds = kinds.to_vec();
    let episode = agent.run(task).await.unwrap();
    (environment, episode)
}

#[test]
fn it_is_printed_parsed_and_stored() {
    let action = highlight();
    assert_eq!((action.to_string().as_str(), Action::parse(LINE).unwrap()), (LINE, action.clone()));
    assert_eq!(Action::parse("highlight \"Cart\" 3 \"here\"").unwrap(), action);
    assert_eq!(serde_json::to_string(&action).unwrap(), "\"highlight 3 \\\"here\\\"\"");
    assert_eq!(named_line(&action, &page(), Naming::NameAndId), "highlight \"Cart\" 3 \"here\"");
    assert_eq!(serde_json::to_string(&ActionKind::Highlight).unwrap(), "\"highlight\"");
    let error = Action::parse("highlight 3").unwrap_err().to_string();
    assert!(error.contains("expected an element id and a text in quotes"), "{error}");
    assert!(Action::parse("blink").unwrap_err().to_string().contains("stop or highlight"));
}

#[test]
fn the_grammar_offers_it_where_it_exists() {
    let rules = |page: &Observation, kinds: &[ActionKind]| action_rules(page, &ActionForms { kinds, ..ActionForms::default() });
    let expected = "action: \"back\" | \"highlight \" highlight_id \" \" literal\nhighlight_id: \"3\"";
    assert_eq!(rules(&page(), &[ActionKind::Highlight, ActionKind::Back]), expected);
    assert_eq!(rules(&Observation::default(), &[ActionKind::Highlight, ActionKind::Back]), "action: \"back\"\n");
    assert_eq!(highlight().invalid_on(&page()), None);
    assert_eq!(highlight().invalid_on(&Observation::default()).as_deref(), Some("there is no element 3 on the page"));
}

#[tokio::test]
async fn a_capability_without_it_refuses_it() {
    let here = Url::parse("http://a.org/").unwrap();
    let default = Capability::for_host(&here);
    let reason = default.refuses(&highlight(), &here);
    assert_eq!(reason.as_deref(), Some("the action `highlight 3 \"here\"` is not among the kinds this task may use"));
    let wide = Capability { action_kinds: vec![ActionKind::Highlight], ..default.clone() };
    assert_eq!(wide.refuses(&highlight(), &here), None);
    let (environment, episode) = run(&default.action_kinds, &[LINE]).await;
    assert_eq!((environment.marks.len(), episode.stop), (0, Some(Stop::NeedsApproval(reason.unwrap()))));
}

#[tokio::test]
async fn it_is_carried_out_by_its_handler_and_an_unknown_one_fails() {
    let kinds = ActionKind::ALL;
    let (environment, episode) = run(kinds, &[LINE, "highlight 4 \"x\"", "back", "answer"]).await;
    assert_eq!(environment.marks, [(3, "here".to_owned())]);
    let errors: Vec<_> = episode.steps.iter().map(|step| step.outcome.error.as_deref()).collect();
    assert_eq!(errors, [None, Some("invalid: there is no element 4 on the page"), Some("invalid: `back` is not for the browser"), None]);
    assert_eq!(episode.stop, Some(Stop::Answered));
}

#[test]
fn every_kind_is_offered_on_some_page_and_read_back_under_its_word() {
    let list = Element { options: vec!["a".into()], id: 4, role: "combobox".into(), ..Element::default() };
    let field = Element { id: 5, role: "textbox".into(), ..Element::default() };
    let page = Observation { elements: [page().elements, vec![list, field]].concat(), ..Observation::default() };
    let tools = [super::ToolForm { name: "fetch".into(), description: String::new(), schema: serde_json::json!({}) }];
    for kind in ActionKind::ALL {
        let rules = action_rules(&page, &ActionForms { kinds: &[*kind], tools: &tools, ..ActionForms::default() });
        assert!(rules.starts_with(&format!("action: \"{}", kind.word())), "{rules}");
        assert_eq!(ActionKind::from_word(kind.word()), Some(*kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
    }
}
