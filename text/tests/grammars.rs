//! Tests that every grammar that the runtime writes compiles, and that every sentence of it parses and is valid on its page.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use milepost_runtime::action::{ActionForms, AnswerText, ToolForm, action_rules, shared_rules};
use milepost_runtime::plan::step_rules;
use milepost_runtime::{Action, ActionKind, Check, Element, Grammar, Observation, Plan, Planned, Revision, State, StepStatus};
use milepost_text::{BitMask, ChatTemplate, GrammarCompiler, SEED_SPECIALS, SEED_TEMPLATE, TextModel, rebuild_masks, train_bpe};

static TEXT: LazyLock<TextModel> = LazyLock::new(|| {
    let page = observation();
    let mut corpus = vec![page.render(100), plan_corpus()];
    corpus.extend((0..400).map(|i| format!("type {i} \"Ada Lovelace {}\"\nclick {i}\nselect 3 \"Oslo\"\n", i * 7)));
    let tokenizer = train_bpe(corpus.iter().map(String::as_str), 600, &SEED_SPECIALS).unwrap();
    let template = ChatTemplate::new(SEED_TEMPLATE, None, Some("<|end|>")).unwrap();
    let end = tokenizer.token_id("<|end|>").unwrap();
    TextModel::new(tokenizer, template, vec![end], std::path::Path::new("test")).unwrap()
});

static COMPILER: LazyLock<GrammarCompiler> = LazyLock::new(|| GrammarCompiler::new(&TEXT).unwrap());

/// Writes plans, revisions and checks for the tokenizer's corpus.
fn plan_corpus() -> String {
    "open the cart => url contains \"/cart\"\nfill in the city => field \"City\" is \"Oslo\"\npay => text visible \"Order placed\"\nend\n\
         revise\nresume 3\nkeep\nexists button \"Pay\"\ncount row at least 3\nchecked \"Gift\"\nnot text visible \"x\"\n"
        .repeat(5)
}

fn observation() -> Observation {
    let element = |id: u32, role: &str, name: &str| Element { id, role: role.into(), name: name.into(), ..Element::default() };
    let options = vec!["Oslo".into(), "Bergen \"west\"".into(), "Åles\\und".into(), "<|end|>".into(), "Oslo".into(), String::new()];
    Observation {
        url: "http://shop.test/cart".into(),
        title: "Cart".into(),
        elements: vec![
            element(1, "link", "Home"),
            element(2, "textbox", "City"),
            Element { options: options.clone(), ..element(3, "combobox", "Town") },
            Element { state: vec![State::Disabled], ..element(4, "button", "Pay") },
            element(11, "searchbox", "Search"),
            element(112, "button", "Go"),
            Element { options, state: vec![State::Disabled], ..element(12, "listbox", "Old") },
        ],
        text: "Total | 12".into(),
        ..Observation::default()
    }
}

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

fn tools() -> Vec<ToolForm> {
    let fetch = serde_json::json!({
        "type": "object", "additionalProperties": false, "required": ["url"],
        "properties": { "url": { "type": "string", "maxLength": 60 } },
    });
    let count = serde_json::json!({
        "type": "object", "additionalProperties": false, "required": ["n", "kind"],
        "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 99 }, "kind": { "enum": ["a b", "c"] } },
    });
    [("fetch", fetch), ("count", count)].map(|(name, schema)| ToolForm { name: name.into(), description: String::new(), schema }).to_vec()
}

fn actions(answer_text: AnswerText) -> String {
    let tools = tools();
    action_rules(&observation(), &ActionForms { kinds: &KINDS, tools: &tools, answer_text, ..ActionForms::default() })
}

/// The SplitMix64 generator, so that the tests draw the same completions on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Draws a completion, each token uniformly from the allowed ones.
fn sample(grammar: &Grammar, random: &mut Random) -> Vec<u32> {
    let mut parser = COMPILER.matcher(grammar).unwrap();
    let (mut ids, mut mask) = (Vec::new(), BitMask::default());
    loop {
        parser.allowed(&mut mask).unwrap();
        let allowed: Vec<u32> = mask.ids().collect();
        assert!(!allowed.is_empty(), "stuck after {:?} in\n{}", TEXT.decode(&ids), grammar.0);
        assert_eq!(mask.get(TEXT.end_id()), parser.accepting(), "the end token is allowed exactly when the text is a sentence");
        let token = allowed[random.below(allowed.len())];
        parser.advance(token).unwrap();
        ids.push(token);
        if token == TEXT.end_id() {
            return ids;
        }
        assert!(ids.len() < 40_000, "no end in sight: {:?}", TEXT.decode(&ids));
    }
}

fn check_samples(grammar: &Grammar, count: u64, check: impl Fn(&str)) {
    for seed in 0..count {
        let ids = sample(grammar, &mut Random(seed));
        let text = TEXT.decode(&ids);
        check(&text);
        if seed < 20 {
            let masks = rebuild_masks(&COMPILER, grammar, &ids).unwrap();
            assert!(masks.iter().zip(&ids).all(|(mask, id)| mask.get(*id)) && masks.len() == ids.len());
        }
    }
}

fn check_action(text: &str) {
    let action = Action::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(action.invalid_on(&observation()), None, "{text:?}");
    assert!(Action::parse(&action.to_string()).is_ok(), "{action}");
}

/// Checks that the grammar accepts this text, in the tokens of the tokenizer, and that it may end there.
fn check_accepts(grammar: &Grammar, text: &str) {
    let ids = TEXT.encode_completion(text).unwrap();
    let masks = rebuild_masks(&COMPILER, grammar, &ids).unwrap_or_else(|error| panic!("{text:?}: {error}\n{}", grammar.0));
    let refused = masks.iter().zip(&ids).position(|(mask, id)| !mask.get(*id));
    assert_eq!(refused, None, "{text:?} is refused after {:?}", refused.map(|at| TEXT.decode(&ids[..at])));
}

fn accepts(grammar: &Grammar, text: &str) -> bool {
    let ids = TEXT.encode_completion(text).unwrap();
    rebuild_masks(&COMPILER, grammar, &ids).is_ok_and(|masks| masks.iter().zip(&ids).all(|(mask, id)| mask.get(*id)))
}

#[test]
fn actions_of_a_random_model_are_valid() {
    for answer in [AnswerText::Summarizer, AnswerText::Executor] {
        let grammar = Grammar(format!("start: action\n{}\n{}", actions(answer), shared_rules()));
        check_samples(&grammar, 500, check_action);
    }
}

#[test]
fn every_verb_can_be_written() {
    let grammar = Grammar(format!("start: action\n{}\n{}", actions(AnswerText::Executor), shared_rules()));
    for text in [
        "click 1",
        "click 11",
        "click 112",
        "type 2 \"ana \\\"x\\\" \\\\ æ\"",
        "select 3 \"Bergen \\\"west\\\"\"",
        "select 3 \"Åles\\\\und\"",
        "select 3 \"<|end|>\"",
        "press PageDown",
        "scroll up",
        "goto \"/a\"",
        "back",
        "wait",
        "stop \"no\"",
        "answer \"12\"",
        "call count {\"n\":12,\"kind\":\"a b\"}",
    ] {
        check_accepts(&grammar, text);
    }
}

#[test]
fn plans_of_a_random_model_parse() {
    let grammar = Grammar(format!("start: steps \"end\"\n{}\n{}", step_rules(), shared_rules()));
    check_samples(&grammar, 25, |text| {
        let steps = Plan::parse_steps(text).unwrap_or_else(|error| panic!("{error}"));
        assert!(steps.len() <= 60);
        assert_eq!(text.lines().count(), steps.len() + 1, "{text:?}");
    });
    check_accepts(&grammar, "open the cart => url contains \"/cart\"\npay 12 => not count row at least 3\nend");
    for text in ["resumed 3", "result", "rest", "ro", "r-2", "resume-now", "Resume 3", "end here", "a"] {
        let line = |text: &str| format!("{text} => exists button \"Pay => now\"\nend");
        match text.len() {
            1 => assert!(!accepts(&grammar, &line(text)), "{text}"),
            _ => check_accepts(&grammar, &line(text)),
        }
    }
    for text in ["resume 3", "resume ", "resume the walk"] {
        assert!(!accepts(&grammar, &format!("{text} => checked \"a\"\nend")), "{text}");
    }
}

#[test]
fn turns_of_a_random_model_parse() {
    let step = |text: &str| Planned { text: text.into(), check: Some(Check::UrlContains("/x".into())) };
    let mut plan = Plan::new((0..14).map(|i| step(&format!("step {i}"))).collect());
    plan.steps[0].status = StepStatus::Done;
    plan.cursor = 1;
    let rules = format!("{}\n{}\n{}\n{}", Revision::rules(&plan), step_rules(), actions(AnswerText::Summarizer), shared_rules());
    let grammar = Grammar(format!("start: revision \"\\n\" action\n{rules}"));
    check_samples(&grammar, 60, |text| {
        let (revision, action) = text.rsplit_once('\n').unwrap();
        let revision = Revision::parse(revision).unwrap_or_else(|error| panic!("{error}"));
        let mut plan = plan.clone();
        plan.revise(revision).unwrap_or_else(|error| panic!("{error}"));
        check_action(action);
    });
    check_accepts(&grammar, "keep\nclick 1");
    check_accepts(&grammar, "revise\nopen it => url contains \"/y\"\nresume 14\ntype 2 \"Oslo\"");
    check_accepts(&grammar, "revise\nresume 2\nback");
    check_accepts(&grammar, "revise\nend\nanswer");
    // Step 1 is done, and there is no step 15, so neither can be resumed, and the text after `resume` cannot be a plan step.
    for number in ["1", "0", "15", "4 => checked \"a\"\nend"] {
        assert!(!accepts(&grammar, &format!("revise\nresume {number}\nback")), "{number}");
    }
    let finished =
        Grammar(format!("start: revision \"\\n\" action\n{}", rules.replace(&Revision::rules(&plan), &Revision::rules(&Plan::default()))));
    check_accepts(&finished, "revise\na step => checked \"b\"\nend\nclick 1");
}

/// A random completion that is cut off anywhere can be forced to the end of a sentence.
#[test]
fn a_forced_completion_is_found_from_any_position() {
    let turn = format!("start: revision \"\\n\" action\n{}\n{}", Revision::rules(&Plan::default()), step_rules());
    let grammar = Grammar(format!("{turn}\n{}\n{}", actions(AnswerText::Executor), shared_rules()));
    for seed in 0..60 {
        let ids = sample(&grammar, &mut Random(seed));
        let mut parser = COMPILER.matcher(&grammar).unwrap();
        let cut = Random(!seed).below(ids.len());
        ids[..cut].iter().for_each(|id| parser.advance(*id).unwrap());
        let path = parser
            .forced_completion(64, seed)
            .unwrap_or_else(|| panic!("no completion after …{:?}", TEXT.decode(&ids[cut.saturating_sub(20)..cut])));
        assert!(path.len() <= 64 && path.last() == Some(&TEXT.end_id()));
        assert_eq!(parser.forced_completion(64, seed).unwrap(), path, "the same seed gives the same completion");
        let text = TEXT.decode(&[&ids[..cut], &path].concat());
        check_action(text.rsplit_once('\n').unwrap().1);
    }
}

#[test]
fn a_grammar_that_does_not_compile_says_why() {
    let error = COMPILER.matcher(&Grammar("start: nothing".into())).err().unwrap().to_string();
    assert!(error.contains("does not compile") && error.contains("nothing"), "{error}");
}
