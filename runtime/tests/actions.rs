//! The written forms of actions: their lines, their stored JSON, the errors of lines that are no actions, and the grammar of a page.
//!
//! Recorded episodes, trained adapters and prompts depend on every byte of them, so they are compared with snapshots.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use milepost_runtime::action::{ActionForms, AnswerText, Naming, ToolForm, action_rules, named_line, shared_rules};
use milepost_runtime::{Action, ActionKind, Capability, Element, Observation, State};
use serde_json::json;
use url::Url;

const KINDS: [ActionKind; 11] = [
    ActionKind::Click,
    ActionKind::Type,
    ActionKind::Select,
    ActionKind::Press,
    ActionKind::Scroll,
    ActionKind::Goto,
    ActionKind::Back,
    ActionKind::Wait,
    ActionKind::Call,
    ActionKind::Answer,
    ActionKind::Stop,
];

fn element(id: u32, role: &str, name: &str) -> Element {
    Element { id, role: role.into(), name: name.into(), ..Element::default() }
}

/// Pages without elements, with fields only, and with all sorts of elements, some with names that need quoting.
fn pages() -> [(&'static str, Observation); 4] {
    let options = || vec!["Oslo".into(), "Bergen \"west\"".into(), "Åles\\und".into(), String::new(), "Oslo".into()];
    let disabled = || vec![State::Disabled];
    let page = |elements| Observation { url: "http://shop.test/cart?step=2".into(), elements, ..Observation::default() };
    [
        ("empty", page(Vec::new())),
        ("links", page(vec![element(1, "link", "Home"), element(2, "link", "Home"), element(30, "button", "")])),
        ("fields", page(vec![element(4, "textbox", "City"), Element { options: options(), ..element(5, "combobox", "Town") }])),
        (
            "everything",
            page(vec![
                element(1, "link", "Home"),
                element(2, "textbox", "City"),
                Element { options: options(), ..element(3, "combobox", "Town") },
                Element { state: disabled(), ..element(4, "button", "Pay") },
                element(5, "searchbox", "say \"when\""),
                element(6, "spinbutton", "a\\b"),
                Element { state: disabled(), ..element(7, "textbox", "Old") },
                Element { options: options(), state: disabled(), ..element(8, "listbox", "Old") },
                element(9, "combobox", "Without options"),
                Element { options: vec!["A".into()], ..element(10, "listbox", "Grade") },
                Element { state: vec![State::Checked], ..element(111, "checkbox", "City") },
                element(112, "button", "Gå\tvidere\n"),
            ]),
        ),
    ]
}

fn tools() -> Vec<ToolForm> {
    let fetch = json!({ "type": "object", "required": ["url"], "properties": { "url": { "type": "string", "maxLength": 60 } } });
    vec![
        ToolForm { name: "fetch".into(), description: String::new(), schema: fetch },
        ToolForm {
            name: "desk.read\"x".into(),
            description: String::new(),
            schema: json!({ "x-guidance": { "whitespace_flexible": true }, "type": "object" }),
        },
        ToolForm { name: "any".into(), description: String::new(), schema: json!(true) },
    ]
}

const NAMINGS: [Naming; 2] = [Naming::Id, Naming::NameAndId];

#[test]
fn the_grammar_of_a_page() {
    let (tools, mut out) = (tools(), String::new());
    for (name, page) in pages() {
        for naming in NAMINGS {
            for (answer_text, tools) in [(AnswerText::Summarizer, &tools[..]), (AnswerText::Executor, &[])] {
                let forms = ActionForms { kinds: &KINDS, tools, answer_text, naming };
                let rules = action_rules(&page, &forms);
                writeln!(out, "# {name}, {naming:?}, {answer_text:?}, {} tools\n{rules}\n", tools.len()).unwrap();
            }
        }
    }
    writeln!(out, "# shared\n{}", shared_rules()).unwrap();
    insta::assert_snapshot!(out);
}

#[test]
fn the_grammar_of_each_kind_alone_and_of_their_reverse() {
    let (tools, mut out) = (tools(), String::new());
    let (_, page) = pages().into_iter().next_back().unwrap();
    let mut sets: Vec<Vec<ActionKind>> = KINDS.iter().map(|kind| vec![*kind]).collect();
    sets.extend([Vec::new(), KINDS.into_iter().rev().collect()]);
    for kinds in sets {
        let forms = ActionForms { kinds: &kinds, tools: &tools, ..ActionForms::default() };
        writeln!(out, "# {kinds:?}\n{}\n", action_rules(&page, &forms)).unwrap();
    }
    insta::assert_snapshot!(out);
}

/// Lines that are actions, and similar lines that are not.
const LINES: [&str; 86] = [
    "click 3",
    "  click   3  ",
    "click +3",
    "click \"Home\" 3",
    "click \"Home\"",
    "click \"Home",
    "click \"say \\\"when\\\"\" 5",
    "click",
    "click x",
    "click 3 4",
    "click -1",
    "click 4294967296",
    "click 3 \"x\"",
    "Click 3",
    "type 2 \"Oslo\"",
    "type 2   \"Oslo\"  ",
    "type \"City\" 2 \"say \\\"a\\\\b\\\"\"",
    "type \"City\" \"Oslo\"",
    "type \"City\"",
    "type \"City",
    "type 2",
    "type x \"Oslo\"",
    "type 2 Oslo",
    "type 2 \"Oslo",
    "type 2 \"Oslo\\",
    "type 2 \"Oslo\" and more",
    "type 2 \"\"",
    "type 2 \"{{secret:password}}\"",
    "type",
    "select 3 \"Oslo\"",
    "select \"Town\" 3 \"Bergen \\\"west\\\"\"",
    "select 3",
    "select 3 Oslo",
    "select x \"Oslo\"",
    "select 3 \"Oslo\" x",
    "select",
    "press Enter",
    "press   PageDown",
    "press \"Enter\"",
    "press enter",
    "press Enter Enter",
    "press",
    "scroll up",
    "scroll  down ",
    "scroll left",
    "scroll up up",
    "scroll",
    "goto \"/cart\"",
    "goto \"https://a.org/\" x",
    "goto /cart",
    "goto",
    "goto \"\"",
    "back",
    "back 1",
    "wait",
    "wait \"x\"",
    "call fetch {\"url\":\"/x\"}",
    "call fetch   { \"url\" : \"/x\" , \"a\":[1,2.50,null] }",
    "call fetch",
    "call",
    "call  ",
    "call fetch [1]",
    "call fetch 7",
    "call fetch {x",
    "call fetch  {x",
    "call fetch {} {}",
    "call \"fetch\" {}",
    "answer",
    "answer \"42\"",
    "answer \"42\" x",
    "answer 42",
    "answer \"\"",
    "stop \"no such page\"",
    "stop",
    "stop here",
    "stop \"a\" \"b\"",
    "",
    "   ",
    "hover 3",
    "click\t3",
    "\"Home\" 3",
    "back\n",
    "goto \"/a\nb\"",
    "type 2 \"漢 \\n é\"",
    "clickx 3",
    "answer\u{a0}\"x\"",
];

#[test]
fn lines_as_they_are_read_printed_and_stored() {
    let mut out = String::new();
    for line in LINES {
        match Action::parse(line) {
            Ok(action) => {
                let stored = serde_json::to_string(&action).unwrap();
                let again = match serde_json::from_str::<Action>(&stored).unwrap() {
                    same if same == action => String::new(),
                    other => format!(", read again as {other:?}"),
                };
                let (kind, target) = (action.kind(), action.target());
                writeln!(out, "{line:?}\n  {action:?}\n  {action}\n  {stored} {kind:?} {target:?}{again}").unwrap();
            }
            Err(error) => writeln!(out, "{line:?}\n  {error}\n  {error:?}").unwrap(),
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn lines_with_the_element_named_and_what_is_invalid_on_a_page() {
    let mut out = String::new();
    for (name, page) in pages() {
        for line in [
            "click 1",
            "click 2",
            "click 4",
            "click 5",
            "click 99",
            "type 2 \"say \\\"a\\\"\"",
            "type 3 \"x\"",
            "type 7 \"x\"",
            "type 99 \"x\"",
            "select 3 \"Oslo\"",
            "select 3 \"Rome\"",
            "select 8 \"Oslo\"",
            "select 2 \"Oslo\"",
            "select 99 \"Oslo\"",
            "press Enter",
            "goto \"/x\"",
            "call fetch {}",
            "answer \"x\"",
        ] {
            let action = Action::parse(line).unwrap();
            let [id, both] = NAMINGS.map(|naming| named_line(&action, &page, naming));
            writeln!(out, "{name}: {id} | {both} | {:?}", action.invalid_on(&page)).unwrap();
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn what_a_capability_refuses_and_how_an_approval_widens_it() {
    let here = Url::parse("https://shop.example.org/a/b").unwrap();
    let whole = Capability { secrets: vec!["known".into()], ..Capability::for_host(&here) };
    let mut out = format!("{}\n", serde_json::to_string(&whole).unwrap());
    for line in [
        "click 1",
        "type 1 \"{{secret:known}} and {{secret:other}}\"",
        "type 1 \"{{secret:known}}\"",
        "select 1 \"{{secret:other}}\"",
        "stop \"{{secret:other}}\"",
        "goto \"{{secret:other}}\"",
        "goto \"/x\"",
        "goto \"https://evil.io/\"",
        "goto \"javascript:alert(1)\"",
        "goto \"https://[bad/\"",
        "call fetch {\"url\":\"c\"}",
        "call fetch {\"url\":\"https://evil.io/\"}",
        "call fetch {\"url\":7,\"text\":\"https://evil.io/\"}",
        "call fetch [\"https://evil.io/\"]",
        "call shell {\"url\":\"https://evil.io/\"}",
        "press Enter",
        "answer \"https://evil.io/\"",
    ] {
        let action = Action::parse(line).unwrap();
        let narrow = Capability { action_kinds: Vec::new(), ..whole.clone() };
        let mut wide = whole.clone();
        wide.widen(&action, &here);
        let hosts = &wide.hosts[1..];
        writeln!(out, "{line}\n  {:?}\n  {:?}\n  {hosts:?}", whole.refuses(&action, &here), narrow.refuses(&action, &here)).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn kinds_as_they_are_stored_and_ordered() {
    let mut out = serde_json::to_string(&KINDS).unwrap();
    assert!(KINDS.is_sorted());
    let unknown = serde_json::from_str::<ActionKind>("\"hover\"").unwrap_err();
    write!(out, "\n{KINDS:?}\n{unknown}").unwrap();
    insta::assert_snapshot!(out);
}
