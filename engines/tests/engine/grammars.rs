//! Tests of decoding under the grammar of a page: actions are always valid, and their log-probabilities are recorded exactly.

use milepost_runtime::action::{ActionForms, action_rules, shared_rules};
use milepost_runtime::{Action, ActionKind, Element, Engine, Grammar, Observation};

use crate::model::{SMALL, TestModel, check_decoding, masked};

const KINDS: [ActionKind; 9] = [
    ActionKind::Click,
    ActionKind::Type,
    ActionKind::Select,
    ActionKind::Press,
    ActionKind::Scroll,
    ActionKind::Goto,
    ActionKind::Back,
    ActionKind::Answer,
    ActionKind::Stop,
];

/// Makes a page whose elements depend on its number.
fn page(number: u32) -> Observation {
    let element = |id: u32, role: &str| Element { id, role: role.into(), name: format!("{role} {id}"), ..Element::default() };
    let mut elements: Vec<Element> = (1..=number % 13 + 2).map(|id| element(id, ["link", "textbox", "button"][id as usize % 3])).collect();
    elements.push(Element { options: vec!["Oslo".into(), format!("Town \"{number}\"")], ..element(number + 20, "combobox") });
    Observation { url: "http://shop.test/".into(), elements, ..Observation::default() }
}

fn grammar(page: &Observation) -> Grammar {
    let forms = ActionForms { kinds: &KINDS, ..ActionForms::default() };
    Grammar(format!("start: action\n{}\n{}", action_rules(page, &forms), shared_rules()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_actions_of_an_untrained_model_are_valid() {
    let model = TestModel::new(SMALL, 2);
    let engine = model.engine().await;
    let mut forced = 0;
    for number in 0..1000 {
        let page = page(number);
        // Half of the requests have so few tokens that a long text must be forced to its end.
        let max_tokens = if number % 2 == 0 { 24 } else { 160 };
        let answer = engine.generate(masked(u64::from(number), &grammar(&page), max_tokens)).await.unwrap();
        let action = Action::parse(&answer.text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(action.invalid_on(&page), None, "{action}");
        forced += usize::from(answer.call.completion_ids.len() > max_tokens / 2);
        if number % 100 < 2 {
            check_decoding(&engine, &answer.call, 1e-4).await;
        }
    }
    assert!(forced > 20, "only {forced} completions were long enough to be forced to their end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_grammar_is_refused_and_the_engine_goes_on() {
    let model = TestModel::new(SMALL, 2);
    let engine = model.engine().await;
    let error = engine.generate(masked(1, &Grammar("start: nowhere".into()), 8)).await.unwrap_err().to_string();
    assert!(error.contains("does not compile"), "{error}");
    let endless = Grammar("start: /[a-z]{200}/".into());
    let error = engine.generate(masked(1, &endless, 16)).await.unwrap_err().to_string();
    assert!(error.contains("max_tokens"), "{error}");
    let answer = engine.generate(masked(1, &grammar(&page(1)), 64)).await.unwrap();
    check_decoding(&engine, &answer.call, 1e-4).await;
}
