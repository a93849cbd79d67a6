//! Plans, checks, actions and observations: each parses its own printed form, and refuses invalid input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use milepost_runtime::plan::VerdictBy;
use milepost_runtime::{Action, Capability, Check, Element, Observation, Plan, Planned, Revision, State, StepStatus, Task, Verdict};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

fn plan(texts: &[&str]) -> Plan {
    Plan::new(texts.iter().map(|text| Planned::parse(text).unwrap()).collect())
}

fn texts(plan: &Plan) -> Vec<(String, StepStatus)> {
    plan.steps.iter().map(|step| (step.text.clone(), step.status)).collect()
}

/// Checks a revision of a plan whose first `done` steps are verified, and under whose next step an action was carried out if `started`.
fn check_plan_revision(before: &[&str], done: usize, started: bool, revision: &str, after: &[(&str, StepStatus)]) {
    let mut plan = plan(before);
    for turn in 0..done {
        plan.mark_executed(turn as u32);
        assert!(plan.record_verdict(Verdict::True, VerdictBy::Check, turn as u32));
    }
    if started {
        plan.mark_executed(done as u32);
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
    plan.record_verdict(Verdict::True, VerdictBy::Check, 0);
    let before = plan.clone();
    assert!(plan.revise(Revision::parse("revise\nresume 1").unwrap()).is_err());
    assert!(plan.revise(Revision::parse("revise\nresume 9").unwrap()).is_err());
    assert_eq!(plan, before);
}

#[test]
fn only_a_true_verdict_moves_the_cursor() {
    let mut plan = plan(&["a"]);
    assert!(!plan.record_verdict(Verdict::Unknown, VerdictBy::Verifier, 0));
    assert!(!plan.record_verdict(Verdict::False, VerdictBy::Check, 0));
    assert!(plan.record_verdict(Verdict::True, VerdictBy::Check, 1) && plan.finished());
    assert!(!plan.record_verdict(Verdict::True, VerdictBy::Check, 2));
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
fn bad_tasks_are_refused_with_the_fix() {
    for (goal, url) in [(" ", "http://a.org/"), ("x", "ftp://a.org/"), ("x", "a.org"), ("x", "file:///x")] {
        assert!(Task::new(goal, url).is_err(), "{goal} {url}");
    }
}

/// Returns random texts in which quotes, escapes and markers are frequent.
fn random_texts(count: usize, longest: usize) -> impl Iterator<Item = String> {
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
    for text in random_texts(2_000, 30) {
        let action = Action::Type { id: 12, text: text.clone() };
        assert_eq!(Action::parse(&action.to_string()).unwrap(), action);
        let check = Check::FieldHasValue { name: text.clone(), value: text };
        assert_eq!(Check::parse(&check.to_string()).unwrap(), check);
    }
}

#[test]
fn no_line_makes_the_parsers_panic() {
    for line in random_texts(2_000, 20) {
        for start in ["", "type 1 ", "call fetch ", "revise\n", "count ", "field \""] {
            let line = format!("{start}{line}");
            let read =
                [Action::parse(&line).is_ok(), Check::parse(&line).is_ok(), Revision::parse(&line).is_ok(), Planned::parse(&line).is_ok()];
            assert!(read.len() == 4);
        }
    }
}
